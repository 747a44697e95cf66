# The stages' image: Python, PyTorch's CPU build and jobs/, without developer tools.
#
#   docker build -t jobrelay:0.1.0 -f images/slim.Dockerfile .          (make image)
#
# It builds the same with docker (with and without BuildKit), podman and buildah, so no step uses
# RUN --mount. BASE is any image with Debian's or Docker's Python >= 3.11 and its venv.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# cpu or cuda: which build of PyTorch (requirements/torch-*.txt)
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# pip's own settings, if you have a mirror or a folder of wheels: --build-arg PIP_INDEX_URL=…
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
# For strip: a third of libtorch_cpu.so is a symbol table that only a debugger reads.
RUN apt-get update -q && apt-get install -q -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
COPY constraints.txt requirements/jobs.txt requirements/torch-cpu.txt requirements/torch-cuda.txt /requirements/
# PyTorch first, by its build, as in the Makefile: from pip's configured index, else from PyTorch's own.
# No .pyc yet: a run never imports most of the installed modules, so they need not be compiled.
RUN python3 -m venv /opt/venv \
    && install="/opt/venv/bin/pip install -q --no-cache-dir --no-compile" \
    && { $install --retries 0 --no-deps -r /requirements/torch-${TORCH}.txt 2>/dev/null \
         || $install --no-deps -r /requirements/torch-${TORCH}.txt --extra-index-url ${TORCH_INDEX}; } \
    && $install -c /requirements/constraints.txt -r /requirements/jobs.txt \
    && /opt/venv/bin/pip uninstall -q -y setuptools pip
# Makes `import torchvision` work for every program, even if its wheel is of another build than PyTorch's.
COPY jobs/jobrelay_train/torchvision_operators.py /torchvision_operators.py
RUN /opt/venv/bin/python /torchvision_operators.py && /opt/venv/bin/python -c 'import torchvision'
# Remove what a run never opens. Savings in MB, of the 852 MB of /opt/venv (PyTorch 2.13.0, x86):
#   98  symbols of libtorch_*.so       41  torch/include, torch/share
#   86  torch/test                     20  the tests of sympy, numpy and others
#   52  torch/bin (tests, protoc)       6  type stubs, static libraries, test libraries
# With the 59 MB of .pyc added below, 611 remain. On a Debian base of 199 MB the image has 815 MB, 267 when
# compressed. All of tests/jobs pass in it, on a read-only root and as its own user.
RUN cd /opt/venv/lib/python3*/site-packages \
    && rm -rf torch/include torch/share torch/test \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
    && find . -type f \( -name '*.pyi' -o -name '*.a' -o -name '*.lib' -o -name '*_test.so' \) -delete \
    && strip --strip-unneeded torch/lib/libtorch_*.so
# Compile now what a run imports, because the root file system will be read-only.
COPY images/warm_up.py /warm_up.py
RUN /opt/venv/bin/python /warm_up.py \
    && cd /opt/venv/lib/python3*/site-packages && /opt/venv/bin/python -m compileall -q pydantic torchvision \
    && if [ -f _torchvision_operators.py ]; then /opt/venv/bin/python -m compileall -q _torchvision_operators.py; fi
COPY jobs /app
RUN /opt/venv/bin/python -m compileall -q /app

FROM ${BASE}
LABEL org.opencontainers.image.title="JobRelay" \
      org.opencontainers.image.description="Train, evaluate and infer with PyTorch as Kubernetes Jobs" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    JOBRELAY_VOLUME=/mnt/jobrelay \
    JOBRELAY_RUN=docker
# Only for `docker run`; in a Job the claim is mounted here, and the manifest names the run.
RUN install -d -o 10001 -g 10001 /mnt/jobrelay
WORKDIR /app
COPY LICENSE ./
COPY --from=build /app ./
USER 10001:10001
ENTRYPOINT ["python", "-m", "jobrelay_train"]
