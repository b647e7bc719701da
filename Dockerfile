# graphkd on a CPU, or with --gpus all on a GPU. docs/production.md says how to build and run it.
FROM python:3.11-slim

# Without the CUDA libraries: --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY graphkd graphkd
COPY kernels kernels
COPY tests/golden tests/golden
RUN pip install --constraint constraints.txt ".[train,report,export]"

# Any user may run it: what is kept between commands lies in /work, what is downloaded in /cache.
ENV HOME=/cache XDG_CACHE_HOME=/cache
RUN mkdir -m 1777 /cache
WORKDIR /work
ENTRYPOINT ["graphkd"]
CMD ["--help"]
