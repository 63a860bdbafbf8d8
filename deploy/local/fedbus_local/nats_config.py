"""Writes the configuration of nats-server: JetStream, the listeners, and whose word counts about users.

Nobody stands in the file: users come with tokens that the accounts' signing keys signed (`identity.py`).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from fedbus_local.identity import FILE_STORE_MAX, MEMORY_STORE_MAX, BusIdentity

PAYLOAD_MAX = 1024 * 1024
CONTROL_LINE_MAX = 4096
PING_INTERVAL = "10s"
PINGS_LOST_MAX = 2
"""A process that hangs is cut off after 20 to 30 s. Until then it gets its share of the clients' requests, and
each of those is lost; the server's own default is about five minutes.
"""
HANDSHAKE_WITHIN = "5s"
RESOLVER_INTERVAL = "2m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Where the server listens; the monitor is unauthenticated and stays on the loopback."""

    host: str
    port: int
    websocket_port: int | None = None
    monitor_port: int


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of the server's certificate and key."""

    certificate: str
    key: str


def render(listeners: Listeners, store: Path, identity: BusIdentity, tls: Tls | None = None) -> str:
    """Write the whole file."""
    accounts = "\n".join(f"  {key}: {token}" for key, token in identity.accounts.items())
    return f"""\
# Written by fedbus; a change by hand is lost at the next start.
server_name: "fedbus"
listen: {_text(f"{listeners.host}:{listeners.port}")}
{_websocket(listeners)}http: "127.0.0.1:{listeners.monitor_port}"
max_payload: {PAYLOAD_MAX}
max_control_line: {CONTROL_LINE_MAX}
ping_interval: "{PING_INTERVAL}"
ping_max: {PINGS_LOST_MAX}
logtime: false
{_tls(tls)}
jetstream {{
  store_dir: {_text(str(store))}
  sync_interval: always
  max_file_store: {FILE_STORE_MAX}
  max_memory_store: {MEMORY_STORE_MAX}
}}

operator: {identity.operator}
system_account: {identity.system}
resolver {{
  type: full
  dir: {_text(str(store / "accounts"))}
  allow_delete: false
  interval: "{RESOLVER_INTERVAL}"
}}
resolver_preload {{
{accounts}
}}
"""


def _tls(tls: Tls | None) -> str:
    """TLS 1.3 from the first byte: nobody between can talk a client out of it."""
    if tls is None:
        return ""
    files = f"cert_file: {_text(tls.certificate)}, key_file: {_text(tls.key)}"
    return f'tls: {{ {files}, min_version: "1.3", handshake_first: true }}\n'


def _websocket(listeners: Listeners) -> str:
    if listeners.websocket_port is None:
        return ""
    return f"""\
websocket {{
  listen: {_text(f"{listeners.host}:{listeners.websocket_port}")}
  no_tls: true
  handshake_timeout: "{HANDSHAKE_WITHIN}"
}}
"""


def _text(value: str) -> str:
    return json.dumps(value)
