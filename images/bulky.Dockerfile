# What one writes without a second thought, to be compared with slim.Dockerfile: a full base image with
# compilers and headers, PyTorch as `pip install torch` gives it (for CUDA, on a machine without a GPU
# too), pip's cache, and root. It runs the same jobs.
#
#   docker build -t jobrelay-bulky:0.1.0 -f images/bulky.Dockerfile .   (python launcher images build bulky)
#
# The versions are those of the slim image: what differs is how it is packed. BASE is any image in which
# `pip install` works.
ARG BASE=python:3.11-bookworm

FROM ${BASE}
# pip's own settings, for whoever has a mirror or a folder of wheels: --build-arg PIP_INDEX_URL=…
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
CMD ["python", "-m", "jobs"]
