# For nodes with NVIDIA GPUs: vLLM, training on several GPUs, and micota. Build and run from the repository's root:
#   docker build -t micota .
#   docker run --gpus all --ipc=host -v "$PWD":/work -v ~/.cache/huggingface:/home/micota/.cache/huggingface micota run RECIPE --machine one-gpu
FROM ghcr.io/astral-sh/uv:0.13.9 AS uv
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04

# Python 3.11, for which constraints/vllm.txt was resolved.
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_PYTHON_INSTALL_DIR=/opt/python PATH=/opt/micota/bin:$PATH
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential ca-certificates git wget \
    && rm -rf /var/lib/apt/lists/* \
    && uv venv --python 3.11 /opt/micota \
    && useradd --create-home micota \
    && mkdir /work && chown micota /work

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY src src
RUN VIRTUAL_ENV=/opt/micota uv pip install --no-cache -c constraints/vllm.txt ".[vllm,openai,ray]" && rm -rf /src/*

USER micota
WORKDIR /work
ENTRYPOINT ["micota"]
CMD ["--help"]
