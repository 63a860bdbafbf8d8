"""Makes the bus's identities: the operator, the accounts SYS, CORE and EDGE, and a signing key a role.

Made once and kept in the keys' folder. An account's token is written again only when what it says has
changed, so that a restart of NATS never goes behind the revocations that were made since.
"""

import json
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedbus_runtime import bus_claims
from fedbus_runtime.bus_claims import BusKey, Claims
from fedbus_schemas import nkeys, subjects
from fedbus_schemas.nkeys import Kind

from fedbus_local.accounts import CLIENT, SERVICES, SYSTEM, Permissions
from fedbus_local.layout import write_private

ANSWERS_MAX = 4
ANSWER_WITHIN_NS = 120 * 10**9
EDGE_PAYLOAD_MAX = 256 * 1024
EDGE_SUBSCRIPTIONS_MAX = 32
CORE_STREAMS_MAX = 64
CORE_CONSUMERS_MAX = 512
FILE_STORE_MAX = 64 * 1024**3
MEMORY_STORE_MAX = 256 * 1024**2
_NO_LIMIT = -1


@dataclass(frozen=True, slots=True)
class BusIdentity:
    """What nats-server's configuration needs: the operator's token, and each account's by its key."""

    operator: str
    system: str
    accounts: dict[str, str]


class Keyring:
    """The keys in a folder, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key(self, name: str, kind: Kind) -> BusKey:
        """Give a key."""
        path = self._folder / f"{name}.nk"
        if not path.exists():
            write_private(path, nkeys.seed(kind, secrets.token_bytes(32)) + "\n")
        return BusKey.read(kind, path.read_text())

    def token(self, name: str, by: BusKey, subject: str, claims: Claims) -> str:
        """Give a token, written anew only when it says something else than before."""
        path = self._folder / f"{name}.jwt"
        if path.exists():
            text = path.read_text().strip()
            said = bus_claims.read(text)
            if (said["iss"], said["sub"], said["nats"]) == (by.public, subject, _plain(claims)):
                return text
        text = bus_claims.sign(by, subject, claims, name=name, issued=now())
        write_private(path, text + "\n")
        return text


def now() -> datetime:
    """Give the time."""
    return datetime.fromtimestamp(time.time(), UTC)


def ensure(folder: Path) -> BusIdentity:
    """Make what is missing of the bus's identities."""
    ring = Keyring(folder)
    operator = ring.key("operator", Kind.OPERATOR)
    system, core, edge = (ring.key(name, Kind.ACCOUNT) for name in ("sys", "core", "edge"))
    client = ring.key("client.scope", Kind.ACCOUNT)
    scopes = {role: ring.key(f"{role}.scope", Kind.ACCOUNT) for role in SERVICES}
    said = {"type": "operator", "version": 2, "system_account": system.public}
    accounts = {
        system.public: ring.token("sys", operator, system.public, _system()),
        core.public: ring.token("core", operator, core.public, _core(scopes)),
        edge.public: ring.token("edge", operator, edge.public, _edge(core.public, client.public)),
    }
    for role, scope in scopes.items():
        user = ring.key(role, Kind.USER)
        claims = {"type": "user", "version": 2, "issuer_account": core.public, "tags": []}
        ring.token(role, scope, user.public, claims)
    watcher = ring.key("sys.user", Kind.USER)
    ring.token("sys.user", system, watcher.public, _user(SYSTEM))
    write_private(folder / "edge.account", edge.public + "\n")
    return BusIdentity(
        ring.token("operator", operator, operator.public, said), system.public, accounts
    )


def client_token(folder: Path, device: str, *, name: str, project: str, expires: datetime) -> str:
    """Let a device take part in a project until then."""
    ring = Keyring(folder)
    account = (folder / "edge.account").read_text().strip()
    scope = ring.key("client.scope", Kind.ACCOUNT)
    return bus_claims.sign_user(
        scope, account, device, name=name, project=project, issued=now(), expires=expires
    )


def _system() -> dict[str, Any]:
    return {"type": "account", "version": 2, "limits": _limits()}


def _core(scopes: dict[str, BusKey]) -> dict[str, Any]:
    store = {
        "disk_storage": FILE_STORE_MAX,
        "mem_storage": MEMORY_STORE_MAX,
        "streams": CORE_STREAMS_MAX,
        "consumer": CORE_CONSUMERS_MAX,
    }
    return {
        "type": "account",
        "version": 2,
        "limits": _limits() | store,
        "exports": [
            {"name": "asks", "subject": subjects.ALL_ASKS, "type": "service"},
            {"name": "tasks", "subject": subjects.ALL_TASKS, "type": "stream"},
        ],
        "signing_keys": [_scope(role, key.public, SERVICES[role]) for role, key in scopes.items()],
    }


def _edge(core: str, client: str) -> dict[str, Any]:
    asks = {"name": "asks", "subject": subjects.ALL_ASKS, "type": "service", "share": True}
    tasks = {"name": "tasks", "subject": subjects.ALL_TASKS, "type": "stream"}
    bounds = {"subs": EDGE_SUBSCRIPTIONS_MAX, "payload": EDGE_PAYLOAD_MAX}
    scope = _scope("client", client, CLIENT)
    scope["template"] |= bounds | {"allowed_connection_types": ["STANDARD", "WEBSOCKET"]}
    return {
        "type": "account",
        "version": 2,
        "limits": _limits(),
        "imports": [{**one, "account": core} for one in (asks, tasks)],
        "signing_keys": [scope],
    }


def _scope(role: str, key: str, may: Permissions) -> dict[str, Any]:
    return {"kind": "user_scope", "key": key, "role": role, "template": _allowed(may)}


def _user(may: Permissions) -> dict[str, Any]:
    return {"type": "user", "version": 2, **_allowed(may)}


def _allowed(may: Permissions) -> dict[str, Any]:
    allowed: dict[str, Any] = {
        "pub": {"allow": list(may.publish)},
        "sub": {"allow": list(may.subscribe)},
        "subs": _NO_LIMIT,
        "data": _NO_LIMIT,
        "payload": _NO_LIMIT,
    }
    if may.answers:
        allowed["resp"] = {"max": ANSWERS_MAX, "ttl": ANSWER_WITHIN_NS}
    return allowed


def _limits() -> dict[str, Any]:
    names = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
    return dict.fromkeys(names, _NO_LIMIT) | {"wildcards": True}


def _plain(claims: Claims) -> object:
    """Give claims as they come back from their text."""
    return json.loads(json.dumps(claims))
