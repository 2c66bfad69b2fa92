# One image for every stage. `sh deploy/containers/build_image.sh TAG` fills in the arguments and prints what each
# layer costs.
# It stays within what the BuildKit of Docker 20.10 understands, so that no syntax image has to be pulled.

# Debian bookworm with python3.11; deploy/containers/make_base_image.sh makes one where there is no registry.
ARG BASE_IMAGE=python:3.11-slim-bookworm
# An image with wheels in its root, for packages that no index offers; empty otherwise.
ARG WHEELS_IMAGE=scratch

FROM ${WHEELS_IMAGE} AS wheels

# What is to be installed, apart from the rest of pyproject.toml: other edits to that file reinstall nothing.
FROM ${BASE_IMAGE} AS requirements
WORKDIR /requirements
COPY pyproject.toml requirements.lock ./
RUN python3.11 -c 'import sys, tomllib; print(*tomllib.load(sys.stdin.buffer)["project"]["dependencies"], sep="\n")' \
      < pyproject.toml > main.txt

FROM ${BASE_IMAGE} AS packages
# strip; and pip, which the official image has and Debian's Python has not.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends binutils \
      $(python3.11 -m pip --version >/dev/null 2>&1 || echo python3-pip)
# Or `cpu`, `cu126`, ...
ARG TORCH=cuda
COPY --from=requirements /requirements/main.txt /requirements/requirements.lock /requirements/
# Settings and certificates of pip's owner come as secrets: they reach no layer. One step, since a file that a later one
# moves or cuts is copied first.
RUN --mount=type=bind,source=deploy/containers/install_packages.sh,target=/install_packages.sh \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=certificates,target=/run/secrets/certificates \
    --mount=type=cache,target=/root/.cache/pip \
    TORCH="$TORCH" sh /install_packages.sh /requirements/main.txt /requirements/requirements.lock

FROM ${BASE_IMAGE} AS source
COPY . /app
# Bytecode that is compared with its source: a copy of this folder may be edited.
RUN rm -r /app/deploy \
 && chmod -R u=rwX,go=rX /app \
 && PYTHONHASHSEED=0 python3.11 -m compileall -q --invalidation-mode checked-hash /app \
 && find /app -exec touch --date 1980-01-01T00:00:00Z {} +

FROM ${BASE_IMAGE}
# A name for the user, since git and others ask for one.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends ca-certificates git \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/* \
 && echo 'app:x:10001:0::/tmp:/usr/sbin/nologin' >> /etc/passwd
COPY --from=packages /layers/torch /
COPY --from=packages /layers/others /
COPY --from=source /app /app
WORKDIR /app
# Only /tmp has to be writable: a tmpfs or an emptyDir where the root file system is read-only.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/tmp TMPDIR=/tmp USER=app \
    DVC_NO_ANALYTICS=1 DVC_SITE_CACHE_DIR=/tmp/dvc
# Group 0: a cluster that gives pods user numbers of its own choice leaves them this group.
USER 10001:0
# No ENTRYPOINT: Kubeflow Pipelines puts its launcher before each task's command.
CMD ["python", "-m", "pipeline", "--help"]
ARG REVISION=unknown
ARG SOURCE=""
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title="restoration-distillation" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      restoration-distillation.requirements-lock.sha256="$LOCK_SHA256"
