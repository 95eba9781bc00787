# aigc in a container, for a user without rights; docs/scale.md says how to build and use it.
# The wheels of torch on PyPI bring their CUDA libraries, so any base works with NVIDIA's driver; INDEX
# may name one whose wheels are for CPUs only and ten times smaller.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Images of CUDA have no Python. The distribution's one is taken, whose version its release fixes.
# hadolint ignore=DL3008
RUN command -v python3 >/dev/null || { apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*; }

FROM base AS build
ARG EXTRAS=serve,onnx
ARG INDEX=
WORKDIR /source
RUN python3 -m venv /opt/aigc
# What is needed changes seldom and is most of the size, so it comes before the code.
COPY pyproject.toml constraints.txt ./
RUN python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *(r for e in '${EXTRAS}'.split(',') if e for r in p['optional-dependencies'][e]), sep='\n')" \
        >requirements.txt \
    && /opt/aigc/bin/pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt \
        ${INDEX:+--extra-index-url "$INDEX"}
COPY . .
RUN /opt/aigc/bin/pip install --no-cache-dir --no-deps .

FROM base
RUN useradd --create-home --uid 10001 aigc && install --directory --owner aigc /data
COPY --from=build /opt/aigc /opt/aigc
ENV PATH=/opt/aigc/bin:$PATH AIGC_DATA=/data/sets AIGC_CACHE=/data/cache
USER 10001
WORKDIR /data
EXPOSE 7860
ENTRYPOINT ["aigc"]
CMD ["--help"]
