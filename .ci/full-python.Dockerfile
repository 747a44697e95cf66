# A substitute for python:3.11-bookworm where no registry can be reached: Debian's own Python, with the
# packages that the official image has from buildpack-deps (curl, scm and the full list).
ARG BASE=localhost/debian-python:bookworm
FROM ${BASE}
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
      ca-certificates curl gnupg netbase sq wget tzdata \
      git mercurial openssh-client subversion procps \
      autoconf automake bzip2 default-libmysqlclient-dev dpkg-dev file g++ gcc imagemagick libbz2-dev \
      libc6-dev libcurl4-openssl-dev libdb-dev libevent-dev libffi-dev libgdbm-dev libglib2.0-dev \
      libgmp-dev libjpeg-dev libkrb5-dev liblzma-dev libmagickcore-dev libmagickwand-dev libmaxminddb-dev \
      libncurses5-dev libncursesw5-dev libpng-dev libpq-dev libreadline-dev libsqlite3-dev libssl-dev \
      libtool libwebp-dev libxml2-dev libxslt-dev libyaml-dev make patch unzip xz-utils zlib1g-dev \
      tk-dev uuid-dev python-is-python3 \
    && rm -rf /var/lib/apt/lists/*
# The official image's pip installs into its only Python; Debian's pip needs this setting to do so.
ENV PIP_BREAK_SYSTEM_PACKAGES=1
