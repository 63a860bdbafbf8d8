"""What a running stack holds: memory by process, messages by stream, blobs by kind, keys of Redis by kind."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import redis
import urllib3
from fedbus_local import keys
from fedbus_local.stack import LocalStack
from fedbus_runtime.s3_blobs import S3Blobs
from fedbus_schemas.streams import STREAMS

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: values by name, after so many rounds; and which life of each process it was."""

    rounds: int
    values: Mapping[str, float]
    pids: Mapping[str, int]


async def look(stack: LocalStack, store: S3Blobs, rounds: int) -> Sample:
    """Measure everything once."""
    processes = {one.name: one.pid for one in stack.status().processes if one.pid is not None}
    values = {f"memory {name} (MB)": _resident_mb(pid) for name, pid in processes.items()}
    values |= _streams(stack) | _records(stack)
    kinds = Counter(key.split("/")[1] for key in await store.list("") if "/" in key)
    for kind in ("models", "updates", "sets", "partials", "pieces"):
        values[f"blobs {kind}"] = kinds[kind]
    for server in ("nats", "redis", "s3"):
        values[f"disk {server} (MB)"] = _on_disk_mb(stack.layout.store(server))
    return Sample(rounds, values, processes)


def _resident_mb(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")]
    return int(found[0]) / 1024 if found else 0.0


def _streams(stack: LocalStack) -> dict[str, float]:
    port = stack.plan.ports["nats_monitor"]
    url = f"http://127.0.0.1:{port}/jsz?accounts=true&streams=true&consumers=true"
    content = json.loads(urllib3.request("GET", url, retries=False, timeout=5.0).data)
    values: dict[str, float] = {}
    for account in content["account_details"]:
        for stream in account.get("stream_detail", ()):
            name, state = stream["name"], stream["state"]
            values[f"stream {name} (messages)"] = state["messages"]
            values[f"stream {name} (KB)"] = state["bytes"] / 1024
            for consumer in stream.get("consumer_detail") or ():
                pending = consumer["num_pending"] + consumer["num_ack_pending"]
                values[f"consumer {consumer['name']} (pending)"] = pending
    missing = {one.name for one in STREAMS} - {name.split()[1] for name in values}
    assert not missing, f"no such streams: {missing}"
    return values


def _records(stack: LocalStack) -> dict[str, float]:
    password = keys.read(stack.layout, "redis.password")
    with redis.Redis(port=stack.plan.ports["redis"], password=password) as connection:
        kinds = Counter(
            one.decode().split(":")[2] for one in connection.scan_iter("fl:*", count=1000)
        )
        values: dict[str, float] = {
            "redis memory (MB)": connection.info("memory")["used_memory"] / MEGABYTE
        }
    for kind in ("round", "stored", "fresh", "partials", "transfers", "online", "doc"):
        values[f"redis {kind} (keys)"] = kinds[kind]
    return values


def _on_disk_mb(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:
            continue  # it went meanwhile
    return total / MEGABYTE
