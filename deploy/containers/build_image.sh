#!/bin/sh
# Builds the one image of all stages from the working tree, then prints its size.
#
#   sh deploy/containers/build_image.sh TAG            the CUDA build of torch, for GPU nodes
#   sh deploy/containers/build_image.sh TAG --cpu      the CPU build
#   TORCH=cu126 sh deploy/containers/build_image.sh TAG   another of PyTorch's own builds
#
# BASE_IMAGE is pulled (default python:3.11-slim-bookworm); if no registry answers and we are root, a Debian base is
# made instead. This machine's pip settings and certificates reach the build as secrets and stay out of the image.
set -eu
cd "$(dirname "$0")/../.."
here=deploy/containers
tag="${1:-}"
torch="${TORCH:-cuda}"
[ "${2:-}" != --cpu ] || torch=cpu
if [ -z "$tag" ] || [ "$tag" = --cpu ] || [ "${2:---cpu}" != --cpu ]; then
  echo "usage: sh $here/build_image.sh TAG [--cpu]" >&2
  exit 2
fi

# Secrets need BuildKit: the buildx plugin, or a Docker CLI older than 23, which has it built in.
docker=""
for candidate in docker /usr/bin/docker; do
  if "$candidate" buildx version >/dev/null 2>&1 \
    || [ "$("$candidate" version --format '{{.Client.Version}}' 2>/dev/null | cut -d . -f 1)" -lt 23 ] 2>/dev/null; then
    docker="$candidate"
    break
  fi
done
if [ -z "$docker" ]; then
  echo "error: no Docker CLI with BuildKit: install docker-buildx (or docker.io where Debian offers no buildx)" >&2
  exit 2
fi
if ! "$docker" info >/dev/null 2>&1; then
  echo "error: no Docker engine answers; where none runs and you are root: sh $here/start_engine.sh" >&2
  exit 2
fi

base="${BASE_IMAGE:-python:3.11-slim-bookworm}"
if ! "$docker" image inspect "$base" >/dev/null 2>&1 && ! "$docker" pull --quiet "$base" >/dev/null 2>&1; then
  echo "$base can neither be found nor pulled here: Debian's own Python stands in for it"
  base=restoration-distillation-base:bookworm
  "$docker" image inspect "$base" >/dev/null 2>&1 || sh $here/make_base_image.sh "$base"
fi

settings="$(mktemp -d)"
trap 'rm -rf "$settings"' EXIT
"${PYTHON:-python3}" $here/pip_settings.py "$settings"
wheels=scratch
if [ -s "$settings/wheels.txt" ]; then
  listing="$(xargs -I FOLDER find FOLDER -maxdepth 1 -name '*.whl' -printf '%f %s\n' <"$settings/wheels.txt" | sort)"
  wheels="restoration-distillation-wheels:$(echo "$listing" | sha256sum | cut -c 1-12)"
  if ! "$docker" image inspect "$wheels" >/dev/null 2>&1; then
    mkdir "$settings/wheels"
    xargs -I FOLDER find FOLDER -maxdepth 1 -name '*.whl' -exec ln -s {} "$settings/wheels/" ';' <"$settings/wheels.txt"
    tar --create --dereference --directory "$settings/wheels" . | "$docker" import - "$wheels" >/dev/null
  fi
fi

revision="$(git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null || echo unknown)"
# Without user and password, which an address for cloning may carry.
source="$(git remote get-url origin 2>/dev/null | sed -nE 's#^(https?://)([^@/]*@)?#\1#p' || true)"
lock="$(sha256sum requirements.lock | cut -d ' ' -f 1)"

DOCKER_BUILDKIT=1 "$docker" build --tag "$tag" \
  --secret "id=pip.conf,src=$settings/pip.conf" --secret "id=certificates,src=$settings/certificates.crt" \
  --build-arg "BASE_IMAGE=$base" --build-arg "WHEELS_IMAGE=$wheels" --build-arg "TORCH=$torch" \
  --build-arg "REVISION=$revision" --build-arg "SOURCE=$source" --build-arg "LOCK_SHA256=$lock" .

echo "$tag, revision $revision:"
"$docker" history --format '{{.Size}}\t{{.CreatedBy}}' "$tag" \
  | awk -F '\t' '$1 != "0B" {printf "  %8s  %.90s\n", $1, $2}'
"$docker" image inspect --format '{{.Size}}' "$tag" | awk '{printf "  %6.0fMB  in all\n", $1 / 1e6}'
