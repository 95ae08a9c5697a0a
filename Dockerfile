# Two images from one file. Build with a plain builder:
#   docker build -t breadcrumbs .                        full: refits inside, CUDA libraries, serves on a CPU too
#   docker build -t breadcrumbs-serve --target serve .   predict, heads and rollback on a CPU; no torch, no refits
# docs/deploy.md says how to run them.

# The digest decides what is pulled; `docker buildx imagetools inspect python:3.11-slim-bookworm` prints a newer one.
FROM python:3.11.16-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84 AS base

# What both need to build: never part of an image.
FROM base AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
RUN python -m venv /opt/breadcrumbs
ENV PATH=/opt/breadcrumbs/bin:$PATH
COPY requirements/build.txt .
RUN pip install --require-hashes --requirement build.txt

# Dependencies before the source, so that a change of the source builds in seconds.
FROM builder AS serve-builder
COPY requirements/serve.txt .
RUN pip install --require-hashes --requirement serve.txt
COPY . .
RUN pip install --no-deps --no-build-isolation --no-compile . && pip uninstall --yes pip setuptools \
    && python requirements/sbom.py > /opt/breadcrumbs/sbom.cdx.json

# Triton is torch.compile's, 900 MB that a refit never calls.
FROM builder AS full-builder
COPY requirements/full.txt .
RUN pip install --require-hashes --requirement full.txt && pip uninstall --yes triton
COPY . .
RUN pip install --no-deps --no-build-isolation --no-compile . && pip uninstall --yes pip setuptools \
    && python requirements/sbom.py > /opt/breadcrumbs/sbom.cdx.json

# What both are. Inside a container every address is one of "others", so `insecure` lets the server start without keys;
# who reaches it is the publisher's choice: -p 127.0.0.1:8000:8000, or keys (docs/deploy.md). It answers to `localhost`
# and to its own address; other names are a setting.
FROM base AS runtime
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin breadcrumbs \
    && mkdir /store && chown breadcrumbs /store
COPY models/demo /bundle
ENV PATH=/opt/breadcrumbs/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    BREADCRUMBS_HOST=0.0.0.0 \
    BREADCRUMBS_INSECURE=true \
    BREADCRUMBS_ALLOWED_HOSTS=localhost \
    BREADCRUMBS_BUNDLE=/bundle \
    BREADCRUMBS_STORE=/store
# What no file knows: docker build --build-arg REVISION=$(git rev-parse HEAD) --build-arg SOURCE=$(git remote get-url origin)
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Breadcrumbs" \
      org.opencontainers.image.description="Long-tailed image classification over HTTP; heads refitted and swapped under load" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT"
USER breadcrumbs
WORKDIR /tmp
VOLUME ["/store", "/tmp"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('BREADCRUMBS_PORT', '8000') + '/readyz', timeout=5)"]
ENTRYPOINT ["breadcrumbs"]
CMD ["serve"]

FROM runtime AS serve
ENV BREADCRUMBS_REFIT=off
COPY --from=serve-builder /opt/breadcrumbs /opt/breadcrumbs

FROM runtime AS full
COPY --from=full-builder /opt/breadcrumbs /opt/breadcrumbs
