# Two images from one lock: `docker build --target api .` and `docker build --target worker .`
# Plain instructions only (no RUN --mount): the classic builder of older engines builds it as well.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS base
# deploy/ca/*.crt: authorities to trust besides the system's, e.g. a company's proxy. Empty in a fresh checkout.
COPY deploy/ca/ /usr/local/share/ca-certificates/keelway/
RUN update-ca-certificates \
 && groupadd --gid 10001 keelway \
 && useradd --uid 10001 --gid keelway --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin keelway
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PYTHONUNBUFFERED=1

FROM base AS locked
ARG UV_VERSION=0.13.9
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/opt/keelway \
    UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
RUN python3 -m venv /opt/uv \
 && /opt/uv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check "uv==${UV_VERSION}"
WORKDIR /src
# First what changes seldom: other people's packages stay a cached layer while only our code changes.
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY api/pyproject.toml api/
COPY workers/pyproject.toml workers/
COPY sdk/pyproject.toml sdk/
COPY runtime/pyproject.toml runtime/README.md runtime/
COPY standalone/pyproject.toml standalone/

FROM locked AS build-api
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-install-workspace --package keelway-api
COPY sdk sdk
COPY runtime runtime
COPY migrations migrations
COPY api api
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-editable --package keelway-api

FROM locked AS build-worker
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-install-workspace --package keelway-workers
COPY sdk sdk
COPY runtime runtime
COPY workers workers
# The worker carries the scoring runtime as package data and puts it into every environment it builds.
RUN /opt/uv/bin/uv build --wheel runtime --out-dir workers/keelway_workers/wheels \
 && /opt/uv/bin/uv sync --frozen --no-dev --no-editable --package keelway-workers

FROM base AS api
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="keelway-api" \
      org.opencontainers.image.description="Keelway's HTTP API and its migrations" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build-api /opt/keelway /opt/keelway
RUN install -d -o keelway -g keelway -m 0700 /var/cache/keelway
ENV PATH=/opt/keelway/bin:$PATH UV_CACHE_DIR=/var/cache/keelway/uv UV_PYTHON_DOWNLOADS=never
USER 10001:10001
WORKDIR /
EXPOSE 7300
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('KEELWAY_PORT', '7300') + '/livez', timeout=4)"]
CMD ["python", "-m", "keelway_api"]

FROM base AS worker
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="keelway-worker" \
      org.opencontainers.image.description="Keelway's worker and supervisor" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build-worker /opt/keelway /opt/keelway
# Named volumes start as copies of these folders. The gateway does not start without a file of routes.
RUN install -d -o keelway -g keelway -m 0700 /var/lib/keelway \
 && install -d -o keelway -g keelway -m 0755 /var/lib/keelway-routes \
 && echo '{}' > /var/lib/keelway-routes/routes.yml \
 && chown keelway:keelway /var/lib/keelway-routes/routes.yml
# The cache lies on the volume of the environments, so that packages are hard links and not copies.
ENV PATH=/opt/keelway/bin:$PATH UV_CACHE_DIR=/var/lib/keelway/uv-cache UV_PYTHON_DOWNLOADS=never \
    KEELWAY_NODE_DIR=/var/lib/keelway/node
USER 10001:10001
WORKDIR /
CMD ["python", "-m", "keelway_workers", "worker"]
