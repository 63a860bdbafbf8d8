"""Which clients may join, and the credentials file that each of them gets.

The list holds public keys only: what is secret of a client is in its credentials file and nowhere else.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from fedbus_schemas.credentials import Credentials
from fedbus_schemas.ids import DeviceKey, ProjectId
from pydantic import AwareDatetime, BaseModel, ConfigDict

from fedbus_local import identity, keys, nats_config, plan
from fedbus_local.errors import LocalError
from fedbus_local.layout import Layout, locked, write_private

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DEFAULT_PROJECT = "default"
LOCK = "clients.lock"
TOKEN_LIFETIME = timedelta(days=28)


class ListedClient(BaseModel):
    """A client that may join."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    project: ProjectId
    device: DeviceKey
    added: AwareDatetime


class _ClientList(BaseModel):
    clients: tuple[ListedClient, ...] = ()


def listed(layout: Layout) -> tuple[ListedClient, ...]:
    """Give all clients that may join."""
    try:
        return _ClientList.model_validate_json(layout.client_list.read_bytes()).clients
    except FileNotFoundError:
        return ()


def add(
    layout: Layout,
    stack: plan.Plan,
    names: Sequence[str],
    project: str,
    host: str | None,
    *,
    websocket: bool = False,
) -> list[Credentials]:
    """Let clients join from now on. Raises `LocalError` for a name in use.

    `host` is how they reach this machine; with `websocket` they do so over HTTP.
    """
    server = _server(stack, host, websocket=websocket)
    made: list[Credentials] = []
    with locked(layout.run / LOCK):
        known = list(listed(layout))
        for name in names:
            _demand_name(name, [each.name for each in known if each.project == project])
            credentials = make(layout, name, project, server)
            known.append(_entry(credentials))
            made.append(credentials)
        _write_list(layout, known)
    return made


def remove(layout: Layout, name: str, project: str) -> ListedClient:
    """Strike a client off the list; it has to be revoked as well. Raises `LocalError` for an unknown name."""
    with locked(layout.run / LOCK):
        gone = find(layout, name, project)
        _write_list(layout, [each for each in listed(layout) if each != gone])
    return gone


def find(layout: Layout, name: str, project: str) -> ListedClient:
    """Find a client on the list. Raises `LocalError` for an unknown name."""
    known = listed(layout)
    found = next((each for each in known if (each.name, each.project) == (name, project)), None)
    if found is None:
        raise LocalError(f"there is no client {name} in project {project}")
    return found


def enter(layout: Layout, credentials: Credentials) -> None:
    """Note a client that may join."""
    with locked(layout.run / LOCK):
        _write_list(layout, [*listed(layout), _entry(credentials)])


def write_nats_config(layout: Layout, stack: plan.Plan) -> Path:
    """Write the file that nats-server is started with."""
    path = layout.config / "nats.conf"
    listeners = nats_config.Listeners(
        host=stack.host,
        port=stack.ports["nats"],
        websocket_port=stack.ports["websocket"],
        monitor_port=stack.ports["nats_monitor"],
    )
    text = nats_config.render(listeners, layout.store("nats"), identity.ensure(layout.keys))
    write_private(path, text)
    return path


def make(
    layout: Layout, name: str, project: str, server: str, ca: str | None = None
) -> Credentials:
    """Make a client's keys and sign its first token; `ca` vouches for a server reached by TLS."""
    seed = keys.new_user_seed()
    expires = identity.now() + TOKEN_LIFETIME
    device = keys.user_of(seed)
    return Credentials(
        project=project,
        name=name,
        servers=(server,),
        device_seed=seed,
        token=identity.client_token(
            layout.keys, device, name=name, project=project, expires=expires
        ),
        payload_seed=keys.new_secret(),
        trust=keys.trusted(layout),
        ca=ca,
    )


def _server(stack: plan.Plan, host: str | None, *, websocket: bool) -> str:
    scheme, port = ("ws", "websocket") if websocket else ("nats", "nats")
    return f"{scheme}://{host or stack.public_host}:{stack.ports[port]}"


def _write_list(layout: Layout, known: Sequence[ListedClient]) -> None:
    text = _ClientList(clients=tuple(known)).model_dump_json(indent=2)
    write_private(layout.client_list, text + "\n")


def _entry(credentials: Credentials) -> ListedClient:
    return ListedClient(
        name=credentials.name,
        project=credentials.project,
        device=keys.user_of(credentials.device_seed),
        added=identity.now(),
    )


def _demand_name(name: str, known: Sequence[str]) -> None:
    if not NAME.fullmatch(name):
        raise LocalError(
            f"{name!r} is not a client name: letters, digits, dot, dash and underscore, at most 64"
        )
    if name in known:
        raise LocalError(f"there is a client {name} already; remove it first or take another name")
