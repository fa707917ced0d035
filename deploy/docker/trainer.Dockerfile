# The trainer on a training host: torch, no Dagster but dagster-pipes, no pip, no compiler. docs/images.md explains it.
# BASE, by digest: Python 3.11 as python3.11 with glibc >= 2.28; for EFA with libfabric and aws-ofi-nccl too.
ARG BASE
# With venv and ensurepip. Nothing of it reaches the image but what pip installed.
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS packages
WORKDIR /build
RUN python3.11 -m venv tools && python3.11 -m venv --without-pip /opt/venv
COPY pyproject.toml requirements.lock requirements-cuda.lock deploy/docker/locked.py ./
RUN tools/bin/python locked.py direct trainer > direct.txt
# The secret is pip's configuration, where a network has its own index: it is in no layer.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    tools/bin/python -m pip --python /opt/venv/bin/python install \
    --no-cache-dir --disable-pip-version-check --only-binary :all: \
    --constraint requirements.lock --constraint requirements-cuda.lock --requirement direct.txt
RUN /opt/venv/bin/python locked.py check requirements.lock requirements-cuda.lock
# Links to this stage's interpreter: the next stage makes its own.
RUN rm -f /opt/venv/bin/python* /opt/venv/pyvenv.cfg

FROM ${BASE}
ARG BASE
ARG REVISION
LABEL org.opencontainers.image.title="training-assets/trainer" \
      org.opencontainers.image.description="python -m trainer, on a training host" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
COPY trainer trainer
COPY deploy/docker/sbom.py ./
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/home/trainer \
    DO_NOT_TRACK=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TRAINING_ASSETS_REVISION=${REVISION}
RUN python3.11 -m venv --without-pip /opt/venv \
    && python -m compileall -q trainer \
    && python sbom.py training-assets/trainer "${REVISION}" > sbom.cdx.json \
    && rm sbom.py \
    && echo 'trainer:x:10001:' >> /etc/group \
    && echo 'trainer:x:10001:10001::/home/trainer:/usr/sbin/nologin' >> /etc/passwd \
    && mkdir -p /home/trainer && chown 10001:10001 /home/trainer
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
# No HEALTHCHECK: a training says how it is doing through its run directory, and its launcher watches that.
ENTRYPOINT ["python", "-m", "trainer"]
CMD ["--help"]
