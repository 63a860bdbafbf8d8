# Writes a root file system to standard output: Debian with its Python at the paths of the official image,
# and this machine's certificates, so that pip inside a build trusts what pip outside trusts. For tests only.
mmdebstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
  --customize-hook='for p in python3 python; do ln -sf /usr/bin/python3 "$1"/usr/local/bin/$p; done; ln -sf /usr/bin/pip3 "$1"/usr/local/bin/pip' \
  --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
  --customize-hook='printf "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n" > "$1"/etc/pip.conf' bookworm -
