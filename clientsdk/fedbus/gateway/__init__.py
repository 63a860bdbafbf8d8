"""A client as a service of a gateway: its configuration file, its unit of systemd, and how it is installed."""
