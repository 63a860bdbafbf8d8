# The api: REST and the event stream. Built from the repository's root, no syntax line and no heredoc, so any builder will do:
#   docker build -f deploy/images/api.Dockerfile -t fedbus/api .
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON} AS build
WORKDIR /src
COPY requirements/build.txt requirements/api.txt requirements/
RUN python3 -m venv /build \
 && /build/bin/pip install --no-cache-dir --quiet --require-hashes -r requirements/build.txt \
 && python3 -m venv --without-pip /opt/fedbus \
 && /build/bin/pip --python /opt/fedbus/bin/python install --no-cache-dir --quiet --require-hashes -r requirements/api.txt
COPY schemas schemas
COPY services/core services/core
COPY services/runtime services/runtime
COPY services/api services/api
RUN /build/bin/pip wheel --no-cache-dir --quiet --no-deps --no-build-isolation --wheel-dir /wheels ./schemas ./services/core ./services/runtime ./services/api \
 && /build/bin/pip --python /opt/fedbus/bin/python install --no-cache-dir --quiet --no-deps --no-index /wheels/*.whl

FROM ${PYTHON}
LABEL org.opencontainers.image.title="fedbus/api" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent fedbus
COPY --from=build /opt/fedbus /opt/fedbus
ENV PATH=/opt/fedbus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FEDBUS_LOG__FORMAT=json \
    FEDBUS_API__HOST=0.0.0.0 \
    FEDBUS_API__PORT=8080 \
    FEDBUS_HEALTH__HOST=0.0.0.0 \
    FEDBUS_HEALTH__PORT=8081
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python3", "-m", "fedbus_runtime.healthcheck", "http://127.0.0.1:8080/readyz"]
ENTRYPOINT ["fedbus-api"]
