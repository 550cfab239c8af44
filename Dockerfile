# The longrope command in a container, as a user without rights. Two targets, with the versions of requirements.lock:
#   docker build --target cpu -t longrope:cpu .
#   docker build --target cuda -t longrope:cuda .        (run it with --gpus all)
# Models, data and runs are folders of the host; the user in the container has the id 1000:
#   docker run --rm -v "$PWD:/workspace" -v "$HOME/.cache/huggingface:/home/longrope/.cache/huggingface" longrope:cpu \
#       search --model examples/tiny/model ...
# It needs BuildKit, the default of Docker since version 23.

FROM python:3.11-slim-bookworm AS base
RUN useradd --create-home --uid 1000 longrope \
    && python -m venv /opt/longrope \
    && mkdir /workspace /home/longrope/.cache \
    && chown longrope:longrope /workspace /home/longrope/.cache
ENV PATH=/opt/longrope/bin:$PATH \
    PYTHONUNBUFFERED=1

# The wheel, built apart so that no build tool and no source is in the image.
FROM base AS wheel
WORKDIR /source
RUN pip install --no-cache-dir "setuptools>=77"
COPY pyproject.toml README.md LICENSE ./
COPY rope rope
COPY execution execution
COPY evolution evolution
COPY evaluation evaluation
COPY training training
COPY cli cli
COPY hyperparams hyperparams
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

# Packages before code: they are installed again only when the lock changes.
FROM base AS cpu-packages
COPY requirements.lock /opt/requirements.lock
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --extra-index-url https://download.pytorch.org/whl/cpu \
        "$(grep '^torch==' /opt/requirements.lock)+cpu" \
    && pip install -r /opt/requirements.lock

# PyPI's torch for Linux brings the CUDA libraries; the host needs NVIDIA's driver and container toolkit only.
FROM base AS cuda-packages
COPY requirements.lock /opt/requirements.lock
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -r /opt/requirements.lock

FROM cpu-packages AS cpu
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps /wheel/*.whl
USER 1000
WORKDIR /workspace
ENTRYPOINT ["longrope"]
CMD ["--help"]

FROM cuda-packages AS cuda
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps /wheel/*.whl
USER 1000
WORKDIR /workspace
ENTRYPOINT ["longrope"]
CMD ["--help"]
