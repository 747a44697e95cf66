# A straightforward Dockerfile, for comparison with slim.Dockerfile: a full base image with compilers and
# headers, PyTorch as `pip install torch` installs it (for CUDA, even on a machine without a GPU), pip's
# cache, and root. It runs the same jobs.
#
#   docker build -t jobrelay-bulky:0.1.0 -f images/bulky.Dockerfile .   (python launcher images build bulky)
#
# The versions are those of the slim image; only the packaging differs. BASE is any image in which
# `pip install` works.
ARG BASE=python:3.11-bookworm

FROM ${BASE}
# pip's own settings, if you have a mirror or a folder of wheels: --build-arg PIP_INDEX_URL=…
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
WORKDIR /app
COPY . .
RUN pip install -r requirements/torch-cuda.txt
RUN pip install -c constraints.txt -r requirements/jobs.txt
ENV PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    JOBRELAY_VOLUME=/mnt/jobrelay \
    JOBRELAY_RUN=docker
WORKDIR /app/jobs
CMD ["python", "-m", "jobrelay_train"]
