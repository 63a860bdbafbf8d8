"""How busy this machine is: CPU and memory, from `/proc` (Linux)."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from fedbus import _threads
from fedbus.recorder import Recorder

log = logging.getLogger("fedbus")

IDLE, IOWAIT = 3, 4
"""Places of the idle times in the first line of `/proc/stat`."""


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Time of all processors since the start, in ticks."""

    all: int
    idle: int


def cpu_time(proc: Path = Path("/proc")) -> CpuTime:
    """Read the processors' time. Raises `OSError` where there is no such thing."""
    fields = [int(one) for one in (proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    return CpuTime(sum(fields), fields[IDLE] + fields[IOWAIT])


def host(before: CpuTime, now: CpuTime, proc: Path = Path("/proc")) -> dict[str, float]:
    """Give `cpu_percent` of the time between, and of the memory `memory_percent` and `memory_used_mb`."""
    passed = max(1, now.all - before.all)
    busy = passed - (now.idle - before.idle)
    lines = (proc / "meminfo").read_text().splitlines()
    memory = {name: int(rest.split()[0]) for name, _, rest in (one.partition(":") for one in lines)}
    total = memory["MemTotal"]
    used = total - memory["MemAvailable"]
    return {
        "cpu_percent": round(100.0 * max(0, busy) / passed, 1),
        "memory_percent": round(100.0 * used / total, 1),
        "memory_used_mb": round(used / 1024, 1),
    }


async def watch(recorder: Recorder, every_s: float) -> None:
    """Log how busy this machine is, until cancelled."""
    try:
        before = await _threads.run(cpu_time, "fedbus-host")
        while True:
            await asyncio.sleep(every_s)
            now = await _threads.run(cpu_time, "fedbus-host")
            recorder.log_telemetry("host", host(before, now))
            before = now
    except OSError as error:
        log.warning("host_telemetry_s: this machine does not tell: %s", error)
