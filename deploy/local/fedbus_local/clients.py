"""Which clients may join, and the credentials file that each of them gets.

The list holds public keys only: what is secret of a client is in its credentials file and nowhere else.
"""

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fedbus_schemas.credentials import Credentials
from fedbus_schemas.ids import DeviceKey, ProjectId
from pydantic import AwareDatetime, BaseModel, ConfigDict

from fedbus_local import keys, nats_config, plan
from fedbus_local.errors import LocalError
from fedbus_local.layout import Layout, locked, write_private

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DEFAULT_PROJECT = "default"
LOCK = "clients.lock"


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
    """Let clients join from now on; nats-server has to be told. Raises `LocalError` for a name in use.

    `host` is how they reach this machine; with `websocket` they do so over HTTP.
    """
    server = _server(stack, host, websocket=websocket)
    made: list[Credentials] = []
    with locked(layout.run / LOCK):
        known = list(listed(layout))
        for name in names:
            _demand_name(name, [each.name for each in known if each.project == project])
            credentials = _make(layout, name, project, server)
            known.append(_entry(credentials))
            made.append(credentials)
        _store(layout, stack, known)
    return made


def remove(layout: Layout, stack: plan.Plan, name: str, project: str) -> ListedClient:
    """Let a client join no more; nats-server has to be told. Raises `LocalError` for an unknown name."""
    with locked(layout.run / LOCK):
        known = listed(layout)
        gone = next((each for each in known if (each.name, each.project) == (name, project)), None)
        if gone is None:
            raise LocalError(f"there is no client {name} in project {project}")
        _store(layout, stack, [each for each in known if each is not gone])
    return gone


def enter(layout: Layout, credentials: Credentials) -> None:
    """Note a client that may join; whoever writes the server's configuration has to write it anew."""
    with locked(layout.run / LOCK):
        _write_list(layout, [*listed(layout), _entry(credentials)])


def members(layout: Layout) -> list[nats_config.Member]:
    """Give the clients' users of the bus."""
    return [nats_config.Member(each.project, each.device) for each in listed(layout)]


def write_nats_config(layout: Layout, stack: plan.Plan) -> Path:
    """Write the file that nats-server is started with, or reads again at SIGHUP."""
    path = layout.config / "nats.conf"
    listeners = nats_config.Listeners(
        host=stack.host,
        port=stack.ports["nats"],
        websocket_port=stack.ports["websocket"],
        monitor_port=stack.ports["nats_monitor"],
    )
    services = {role: keys.user_of(keys.read(layout, f"{role}.nk")) for role in keys.ROLES}
    text = nats_config.render(listeners, layout.store("nats"), services, members(layout))
    write_private(path, text)
    return path


def _server(stack: plan.Plan, host: str | None, *, websocket: bool) -> str:
    scheme, port = ("ws", "websocket") if websocket else ("nats", "nats")
    return f"{scheme}://{host or stack.public_host}:{stack.ports[port]}"


def _make(layout: Layout, name: str, project: str, server: str) -> Credentials:
    return Credentials(
        project=project,
        name=name,
        servers=(server,),
        device_seed=keys.new_user_seed(),
        payload_seed=keys.new_secret(),
        trust=keys.trusted(layout),
    )


def _store(layout: Layout, stack: plan.Plan, known: Sequence[ListedClient]) -> None:
    _write_list(layout, known)
    write_nats_config(layout, stack)


def _write_list(layout: Layout, known: Sequence[ListedClient]) -> None:
    text = _ClientList(clients=tuple(known)).model_dump_json(indent=2)
    write_private(layout.client_list, text + "\n")


def _entry(credentials: Credentials) -> ListedClient:
    return ListedClient(
        name=credentials.name,
        project=credentials.project,
        device=keys.user_of(credentials.device_seed),
        added=datetime.fromtimestamp(time.time(), UTC),
    )


def _demand_name(name: str, known: Sequence[str]) -> None:
    if not NAME.fullmatch(name):
        raise LocalError(
            f"{name!r} is not a client name: letters, digits, dot, dash and underscore, at most 64"
        )
    if name in known:
        raise LocalError(f"there is a client {name} already; remove it first or take another name")
