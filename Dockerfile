# For nodes with NVIDIA GPUs: vLLM, training on several GPUs, and micota. Build and run from the repository's root:
#   docker build -t micota .
#   docker run --gpus all --ipc=host -v "$PWD":/work -v ~/.cache/huggingface:/home/micota/.cache/huggingface micota run RECIPE --machine one-gpu
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/micota \
    && useradd --create-home micota \
    && mkdir /work && chown micota /work
ENV PATH=/opt/micota/bin:$PATH

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY src src
RUN pip install --no-cache-dir -c constraints/vllm.txt ".[vllm,openai]" && rm -rf /src/*

USER micota
WORKDIR /work
ENTRYPOINT ["micota"]
CMD ["--help"]
