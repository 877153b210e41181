# The server without torch. CPU:  docker build -t twinlens .
#                           CUDA: docker build -t twinlens:gpu --build-arg EXTRA=gpu .
# Run: docker run -p 8000:8000 -v twinlens-data:/data twinlens
ARG EXTRA=cpu

FROM debian:trixie-slim AS base-cpu
# ONNX Runtime's CUDA build wants the CUDA 13 libraries and cuDNN of this image.
FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS base-gpu

FROM base-${EXTRA} AS base
RUN apt-get update && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/* /usr/share/doc /usr/share/man /usr/share/locale

FROM base AS build
ARG EXTRA
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv gcc libc6-dev
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY twinlens twinlens
# What `make serve` does, into a place of its own and without the editable link; uv and pip stay in this stage.
RUN python3 -m venv /tools && /tools/bin/python -m pip install --quiet --no-cache-dir uv \
    && python3 -m venv --without-pip /opt/twinlens \
    && /tools/bin/uv pip install --quiet --no-cache --python /opt/twinlens/bin/python ".[${EXTRA}]" \
    # Tests of libraries and tools that no server runs.
    && find /opt/twinlens/lib -type d \( -name tests -o -path '*/onnx/backend/test' -o -path '*/onnxruntime/transformers' \) \
       -prune -exec rm -rf {} + \
    # Compiles what a server imports, which a read-only container could not keep.
    && /opt/twinlens/bin/twinlens check builtin

FROM base
COPY --from=build /opt/twinlens /opt/twinlens
RUN useradd --system --create-home --uid 10001 twinlens && install -d -o twinlens /data
ENV PATH=/opt/twinlens/bin:$PATH PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
USER twinlens
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["twinlens", "serve", "--host", "0.0.0.0", "--port", "8000", "--data", "/data"]
