# The client on a gateway: the SDK and its command. Built from the repository's root, no syntax line and no heredoc, so any builder will do:
#   docker build -f deploy/images/gateway.Dockerfile -t fedbus/gateway .
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON} AS build
WORKDIR /src
COPY requirements/build.txt requirements/gateway.txt requirements/
RUN python3 -m venv /build \
 && /build/bin/pip install --no-cache-dir --quiet --require-hashes -r requirements/build.txt \
 && python3 -m venv --without-pip /opt/fedbus \
 && /build/bin/pip --python /opt/fedbus/bin/python install --no-cache-dir --quiet --require-hashes -r requirements/gateway.txt
COPY schemas schemas
COPY clientsdk clientsdk
RUN /build/bin/pip wheel --no-cache-dir --quiet --no-deps --no-build-isolation --wheel-dir /wheels ./schemas ./clientsdk \
 && /build/bin/pip --python /opt/fedbus/bin/python install --no-cache-dir --quiet --no-deps --no-index /wheels/*.whl

FROM ${PYTHON}
LABEL org.opencontainers.image.title="fedbus/gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent fedbus \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/fedbus
COPY --from=build /opt/fedbus /opt/fedbus
ENV PATH=/opt/fedbus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
VOLUME ["/var/lib/fedbus"]
WORKDIR /var/lib/fedbus
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["fedbus", "client", "healthy", "/var/lib/fedbus/alive"]
ENTRYPOINT ["fedbus"]
CMD ["client", "run", "--help"]
