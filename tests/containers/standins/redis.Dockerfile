# Stands in for redis:7.4-alpine where no registry can be reached: Debian's Redis.
FROM python:3.11-slim-bookworm
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server >/dev/null && install -d /data
WORKDIR /data
