"""What a deployment of separate containers or machines is given before it starts: keys, certificates,
the bus's and the stores' configuration, the clients' credentials. One folder a receiver, nothing shared.

Made once; a second call keeps every secret and adds what is missing. Below the folder:

| folder | for |
| --- | --- |
| `state/` | the originals: keys, the authority, the list of clients. Keep it safe, mount it nowhere |
| `nats/`, `redis/`, `s3/` | the servers' configuration and secrets |
| `controller/`, `combiner/`, `api/` | what each service reads from files |
| `operator/` | the api's token and the keys that auditors trust |
| `clients/` | one credentials file a client |
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbus_local import certificates, clients, identity, keys, nats_config
from fedbus_local.certificates import Pair
from fedbus_local.layout import DIRECTORY_MODE, Layout, write_private

NATS_PORT = 4222
MONITOR_PORT = 8222
NAMES = ("nats", "localhost", "127.0.0.1")
S3_ACCESS_KEY = "fedbus"
READABLE = 0o444
"""The stock images of the servers run as users of their own: what only they mount, anyone in there may read."""

SECRETS_OF = {
    "controller": (
        "controller.nk",
        "controller.jwt",
        "operator.nk",
        "sys.user.nk",
        "sys.user.jwt",
        "edge.account",
        "client.scope.nk",
        "redis.password",
        "s3.secret",
        "signing.seed",
    ),
    "combiner": ("combiner.nk", "combiner.jwt", "redis.password", "s3.secret"),
    "api": ("api.nk", "api.jwt", "redis.password", "s3.secret", "api.token"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is to be made. `names`: by which the bus is reached; the first goes into credentials.

    `owner` gets the services' folders (a user id; only root can give files away). `mount` is where NATS
    finds its folder, `store` where it keeps its streams.
    """

    names: Sequence[str] = NAMES
    project: str = clients.DEFAULT_PROJECT
    clients: Sequence[str] = ()
    owner: int | None = None
    mount: str = "/etc/nats"
    store: str = "/data"


def write(root: Path, wanted: Deployment) -> list[str]:
    """Write the folders. Gives the names of the clients that are new; raises `LocalError`."""
    state = Layout.at(root / "state")
    for folder in (state.root, state.keys, state.run, state.config):
        folder.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    keys.ensure(state)
    authority = _once(state, "ca", certificates.new_authority)
    added = _clients(root, state, authority, wanted)
    _nats(root / "nats", state, authority, wanted)
    _stores(root, state)
    trust = {"trust.json": state.trust.read_text()}
    for role, names in SECRETS_OF.items():
        _give(root / role, {name: keys.read(state, name) + "\n" for name in names})
        _give(root / role, {"ca.pem": authority.certificate})
    _give(root / "api", trust)
    _give(root / "operator", {"api.token": keys.read(state, "api.token") + "\n", **trust})
    if wanted.owner is not None:
        for name in (*SECRETS_OF, "operator", "clients"):
            _hand_over(root / name, wanted.owner)
    return added


def _clients(root: Path, state: Layout, authority: Pair, wanted: Deployment) -> list[str]:
    (root / "clients").mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    known = {each.name for each in clients.listed(state) if each.project == wanted.project}
    new = [name for name in wanted.clients if name not in known]
    server = f"tls://{wanted.names[0]}:{NATS_PORT}"
    for name in new:
        credentials = clients.make(state, name, wanted.project, server, authority.certificate)
        clients.enter(state, credentials)
        _give(root / "clients", {f"{name}.json": credentials.model_dump_json(indent=2) + "\n"})
    return new


def _nats(folder: Path, state: Layout, authority: Pair, wanted: Deployment) -> None:
    server = _once(
        state,
        "nats",
        lambda: certificates.new_server(authority, tuple(dict.fromkeys(wanted.names))),
    )
    config = nats_config.render(
        nats_config.Listeners(host="0.0.0.0", port=NATS_PORT, monitor_port=MONITOR_PORT),  # noqa: S104
        Path(wanted.store),
        identity.ensure(state.keys),
        nats_config.Tls(f"{wanted.mount}/server.pem", f"{wanted.mount}/server.key"),
    )
    _give(
        folder,
        {"nats.conf": config, "server.pem": server.certificate, "server.key": server.key},
        READABLE,
    )


def _stores(root: Path, state: Layout) -> None:
    password, secret = keys.read(state, "redis.password"), keys.read(state, "s3.secret")
    redis = "\n".join(
        (
            f"requirepass {password}",
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            "",
        )
    )
    _give(root / "redis", {"redis.conf": redis}, READABLE)
    _give(root / "redis", {"password": password + "\n"}, READABLE)
    identity = {
        "name": S3_ACCESS_KEY,
        "credentials": [{"accessKey": S3_ACCESS_KEY, "secretKey": secret}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    seaweedfs = json.dumps({"identities": [identity]}, indent=2) + "\n"
    minio = {"user": S3_ACCESS_KEY, "password": secret}
    _give(root / "s3", {"seaweedfs.json": seaweedfs, **minio}, READABLE)


def _once(state: Layout, name: str, make: Callable[[], Pair]) -> Pair:
    certificate, key = state.keys / f"{name}.pem", state.keys / f"{name}.key"
    if not key.exists():
        made = make()
        write_private(certificate, made.certificate)
        write_private(key, made.key)
    return Pair(certificate.read_text(), key.read_text())


def _hand_over(folder: Path, owner: int) -> None:
    for path in (folder, *folder.iterdir()):
        os.chown(path, owner, owner)
    folder.chmod(DIRECTORY_MODE)


def _give(folder: Path, files: dict[str, str], mode: int | None = None) -> None:
    folder.mkdir(mode=0o755 if mode is not None else DIRECTORY_MODE, parents=True, exist_ok=True)
    for name, text in files.items():
        write_private(folder / name, text)
        if mode is not None:
            (folder / name).chmod(mode)
