"""Writes the configuration of nats-server: JetStream, the accounts CORE and EDGE, a user for everybody.

A client that is added or removed is a new file and SIGHUP: the server keeps the connections of all others.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbus_schemas import subjects
from fedbus_schemas.ids import DeviceKey, ProjectId

from fedbus_local.accounts import SERVICES, Permissions, client

PAYLOAD_MAX = 1024 * 1024
EDGE_PAYLOAD_MAX = 256 * 1024
EDGE_SUBSCRIPTIONS_MAX = 32
CONTROL_LINE_MAX = 4096
FILE_STORE_MAX = 64 * 1024**3
MEMORY_STORE_MAX = 256 * 1024**2
CORE_STREAMS_MAX = 64
CORE_CONSUMERS_MAX = 512
PING_INTERVAL = "10s"
PINGS_LOST_MAX = 2
"""A process that hangs is cut off after 20 to 30 s. Until then it gets its share of the clients' requests, and
each of those is lost; the server's own default is about five minutes.
"""
HANDSHAKE_WITHIN = "5s"
ANSWERS_MAX = 4
ANSWER_WITHIN = "2m"


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


@dataclass(frozen=True, slots=True)
class Member:
    """A client's user: which project, which device."""

    project: ProjectId
    device: DeviceKey


def render(
    listeners: Listeners,
    store: Path,
    services: Mapping[str, str],
    members: Sequence[Member],
    tls: Tls | None = None,
) -> str:
    """Write the whole file. `services` gives each role's public nkey."""
    core = [_user(key, SERVICES[role]) for role, key in services.items()]
    edge = [_user(each.device, client(each.project, each.device)) for each in members]
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

system_account: SYS
accounts {{
  SYS {{ }}
  CORE {{
    jetstream {{
      max_file: {FILE_STORE_MAX}
      max_mem: {MEMORY_STORE_MAX}
      max_streams: {CORE_STREAMS_MAX}
      max_consumers: {CORE_CONSUMERS_MAX}
    }}
    users: [
{_lines(core)}
    ]
    exports: [
      {{ service: "{subjects.ALL_ASKS}" }}
      {{ stream: "{subjects.ALL_TASKS}" }}
    ]
  }}
  EDGE {{
    limits {{ max_payload: {EDGE_PAYLOAD_MAX}, max_subs: {EDGE_SUBSCRIPTIONS_MAX} }}
    users: [
{_lines(edge)}
    ]
    imports: [
      {{ service: {{ account: CORE, subject: "{subjects.ALL_ASKS}" }}, share: true }}
      {{ stream: {{ account: CORE, subject: "{subjects.ALL_TASKS}" }} }}
    ]
  }}
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


def _user(key: str, may: Permissions) -> str:
    answers = (
        f", allow_responses: {{ max: {ANSWERS_MAX}, expires: {_text(ANSWER_WITHIN)} }}"
        if may.answers
        else ""
    )
    return (
        f"{{ nkey: {key}, permissions: {{ publish: {{ allow: {_list(may.publish)} }}, "
        f"subscribe: {{ allow: {_list(may.subscribe)} }}{answers} }} }}"
    )


def _lines(users: Sequence[str]) -> str:
    return "\n".join(f"      {each}" for each in users)


def _list(allowed: Sequence[str]) -> str:
    return "[" + ", ".join(_text(each) for each in allowed) + "]"


def _text(value: str) -> str:
    return json.dumps(value)
