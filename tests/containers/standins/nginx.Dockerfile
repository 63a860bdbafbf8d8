# Stands in for nginx:1.28-alpine where no registry can be reached: Debian's nginx.
FROM python:3.11-slim-bookworm
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends nginx-light busybox >/dev/null && ln -s /bin/busybox /usr/local/bin/wget
CMD ["nginx", "-g", "daemon off;"]
