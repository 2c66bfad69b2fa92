#!/bin/sh
# Makes the image's base where there is no image registry: Debian bookworm with its Python 3.11, by debootstrap.
# It stands in for python:3.11-slim-bookworm. Needs root, a Debian mirror and a Docker engine.
#
#   sh deploy/containers/make_base_image.sh [TAG]     default TAG: restoration-distillation-base:bookworm
set -eu
tag="${1:-restoration-distillation-base:bookworm}"
mirror="${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
security="${DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security}"

if [ "$(id -u)" != 0 ]; then
  echo "error: debootstrap takes root; or pull python:3.11-slim-bookworm where a registry can be reached" >&2
  exit 2
fi
if ! command -v debootstrap >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    echo "error: no debootstrap on this machine and no apt-get to install it" >&2
    exit 2
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
fi
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
root="$folder/root"

debootstrap --variant=minbase --include=ca-certificates,netbase,python3.11 bookworm "$root" "$mirror" >"$folder/log" \
  || {
    tail -5 "$folder/log" >&2
    echo "error: debootstrap failed with $mirror; set DEBIAN_MIRROR to another" >&2
    exit 2
  }
cat >"$root/etc/apt/sources.list" <<LIST
deb $mirror bookworm main
deb $mirror bookworm-updates main
deb $security bookworm-security main
LIST
# What the official slim images leave out too; apt's caches are read once and would only age.
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'RULES'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
RULES
cat >"$root/etc/apt/apt.conf.d/slim" <<'RULES'
APT::Install-Recommends "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
RULES
cp /etc/resolv.conf "$root/etc/resolv.conf"
chroot "$root" apt-get -qq update
DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -qq -y upgrade >"$folder/log"
chroot "$root" apt-get clean
find "$root/usr/share/doc" -type f ! -name copyright -delete
rm -rf "$root"/usr/share/info/* "$root"/usr/share/locale/* "$root"/usr/share/man/* "$root"/var/lib/apt/lists/* \
  "$root"/var/cache/debconf/*-old "$root"/var/cache/ldconfig/* "$root"/var/log/* \
  "$root/etc/resolv.conf" "$root/etc/hostname"
ln -sf python3.11 "$root/usr/bin/python3"

tar --create --directory "$root" --numeric-owner --sort=name --one-file-system . | docker import \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
  --change 'CMD ["python3.11"]' --message "Debian bookworm with Python 3.11, by debootstrap" - "$tag" >/dev/null
docker image inspect "$tag" --format "$tag: {{.Size}} bytes"
