# The combiner: it takes updates in and folds them. Built from the repository's root, no syntax line and no heredoc, so any builder will do:
#   docker build -f deploy/images/combiner.Dockerfile -t fedbus/combiner .
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON} AS build
WORKDIR /src
COPY requirements/build.txt requirements/services.txt requirements/
RUN python3 -m venv /build \
 && /build/bin/pip install --no-cache-dir --quiet --require-hashes -r requirements/build.txt \
 && python3 -m venv --without-pip /opt/fedbus \
 && /build/bin/pip --python /opt/fedbus/bin/python install --no-cache-dir --quiet --require-hashes -r requirements/services.txt
COPY schemas schemas
COPY services/core services/core
COPY services/sandbox services/sandbox
COPY services/runtime services/runtime
COPY services/combiner services/combiner
RUN /build/bin/pip wheel --no-cache-dir --quiet --no-deps --no-build-isolation --wheel-dir /wheels ./schemas ./services/core ./services/sandbox ./services/runtime ./services/combiner \
 && /build/bin/pip --python /opt/fedbus/bin/python install --no-cache-dir --quiet --no-deps --no-index /wheels/*.whl

FROM ${PYTHON}
LABEL org.opencontainers.image.title="fedbus/combiner" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent fedbus
COPY --from=build /opt/fedbus /opt/fedbus
ENV PATH=/opt/fedbus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FEDBUS_LOG__FORMAT=json \
    FEDBUS_HEALTH__HOST=0.0.0.0 \
    FEDBUS_HEALTH__PORT=8081
USER 10001:10001
EXPOSE 8081
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python3", "-m", "fedbus_runtime.healthcheck", "http://127.0.0.1:8081/readyz"]
ENTRYPOINT ["fedbus-combiner"]
