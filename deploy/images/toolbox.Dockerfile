# For operators: the `fedbus` command, the audit, and what makes keys and certificates. Built from the repository's root, no syntax line and no heredoc, so any builder will do:
#   docker build -f deploy/images/toolbox.Dockerfile -t fedbus/toolbox .
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON} AS build
WORKDIR /src
COPY requirements/build.txt requirements/toolbox.txt requirements/
RUN python3 -m venv /build \
 && /build/bin/pip install --no-cache-dir --quiet --require-hashes -r requirements/build.txt \
 && python3 -m venv --without-pip /opt/fedbus \
 && /build/bin/pip --python /opt/fedbus/bin/python install --no-cache-dir --quiet --require-hashes -r requirements/toolbox.txt
COPY schemas schemas
COPY services/core services/core
COPY services/sandbox services/sandbox
COPY services/runtime services/runtime
COPY services/controller services/controller
COPY services/combiner services/combiner
COPY services/api services/api
COPY clientsdk clientsdk
COPY services/auditor services/auditor
COPY deploy/local deploy/local
RUN /build/bin/pip wheel --no-cache-dir --quiet --no-deps --no-build-isolation --wheel-dir /wheels ./schemas ./services/core ./services/sandbox ./services/runtime ./services/controller ./services/combiner ./services/api ./clientsdk ./services/auditor ./deploy/local \
 && /build/bin/pip --python /opt/fedbus/bin/python install --no-cache-dir --quiet --no-deps --no-index /wheels/*.whl

FROM ${PYTHON}
LABEL org.opencontainers.image.title="fedbus/toolbox" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent fedbus \
 && install -d -o 10001 -g 10001 -m 0700 /work
COPY --from=build /opt/fedbus /opt/fedbus
ENV PATH=/opt/fedbus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["fedbus"]
CMD ["--help"]
