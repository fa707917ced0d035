# Dagster's web server, daemon, code server and runs: one image, the command says which. No torch, no pip, no compiler.
# docs/images.md explains it. BASE, by digest: Python 3.11 as python3.11 with glibc >= 2.28.
ARG BASE
# With venv and ensurepip. Nothing of it reaches the image but what pip installed.
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS packages
WORKDIR /build
RUN python3.11 -m venv tools && python3.11 -m venv --without-pip /opt/venv && python3.11 -m venv --without-pip /opt/dvc
COPY pyproject.toml requirements.lock requirements-dvc.lock deploy/docker/locked.py ./
RUN tools/bin/python locked.py direct dagster > direct.txt
# The secret is pip's configuration, where a network has its own index: it is in no layer.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    tools/bin/python -m pip --python /opt/venv/bin/python install \
    --no-cache-dir --disable-pip-version-check --only-binary :all: \
    --constraint requirements.lock --requirement direct.txt
# DVC pins an antlr runtime that Dagster's selections cannot use: it lives alone, behind its command line.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    tools/bin/python -m pip --python /opt/dvc/bin/python install \
    --no-cache-dir --disable-pip-version-check --requirement requirements-dvc.lock
RUN /opt/venv/bin/python locked.py check requirements.lock && /opt/dvc/bin/python locked.py check requirements-dvc.lock
# Links to this stage's interpreter: the next stage makes its own.
RUN rm -f /opt/venv/bin/python* /opt/venv/pyvenv.cfg /opt/dvc/bin/python* /opt/dvc/pyvenv.cfg

FROM ${BASE}
ARG BASE
ARG REVISION
ARG TRAINER_IMAGE
LABEL org.opencontainers.image.title="training-assets/dagster" \
      org.opencontainers.image.description="The asset graph: Dagster's web server, daemon, code server and runs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
COPY --from=packages /opt/dvc /opt/dvc
# The whole trainer, though only its contract is imported: asset versions are digests of its sources.
COPY trainer trainer
COPY training_assets training_assets
COPY recipes recipes
COPY pyproject.toml requirements.lock workspace.yaml deploy/docker/sbom.py ./
COPY deploy/dagster.postgres.yaml /home/dagster/instance/dagster.yaml
# TRAINING_ASSETS_TRAINER_IMAGE: the trainer's image of the same commit, by digest, that profiles launch.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/home/dagster \
    DAGSTER_HOME=/home/dagster/instance \
    DAGSTER_DISABLE_TELEMETRY=yes \
    DVC_NO_ANALYTICS=true \
    DO_NOT_TRACK=1 \
    WANDB_MODE=offline \
    TRAINING_ASSETS_DVC=/opt/dvc/bin/dvc \
    TRAINING_ASSETS_REVISION=${REVISION} \
    TRAINING_ASSETS_TRAINER_IMAGE=${TRAINER_IMAGE}
RUN python3.11 -m venv --without-pip /opt/venv && python3.11 -m venv --without-pip /opt/dvc \
    && python -m compileall -q trainer training_assets \
    && python sbom.py training-assets/dagster "${REVISION}" > sbom.cdx.json \
    && rm sbom.py \
    && echo 'dagster:x:10001:' >> /etc/group \
    && echo 'dagster:x:10001:10001::/home/dagster:/usr/sbin/nologin' >> /etc/passwd \
    && chown -R 10001:10001 /home/dagster
# A number, so that Kubernetes can see that it is not root. The trainer's, too: both write into one store.
USER 10001:10001
EXPOSE 3000 4000
# Of the code server, which is the image without a command. ECS and Kubernetes have their own for each service.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["dagster", "api", "grpc-health-check", "--port", "4000"]
CMD ["dagster", "api", "grpc", "--host", "0.0.0.0", "--port", "4000", "--module-name", "training_assets.definitions"]
