"""What there is to run: each process's command, environment, port and the question that tells its health."""

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedbus_local import probes
from fedbus_local.errors import BadDirectory

SERVER = "server"
SERVICE_STOP_TIMEOUT_S = 10.0
SERVER_STOP_TIMEOUT_S = 6.0

PASSED_ON = {"FEDBUS_LOG__LEVEL", "FEDBUS_REDIS__DOCUMENTS_AGE"}
"""Settings of fedbus that reach the services from the caller's environment."""
ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Sums are exact on any number of threads; several services on few cores are faster with one each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One process of the stack.

    `leftovers` are files that a killed process leaves behind elsewhere; lines like `noise` are not kept.
    """

    name: str
    role: str
    command: Sequence[str]
    folder: Path
    port: int
    probe: probes.Probe
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_timeout_s: float = SERVICE_STOP_TIMEOUT_S
    leftovers: Sequence[Path] = ()
    noise: re.Pattern[str] | None = None

    def environ(self) -> dict[str, str]:
        """Give the whole environment: the caller's without settings of fedbus (services refuse those that are
        not theirs), and ours on top.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("FEDBUS_") or name in PASSED_ON
        }
        return {**kept, **ONE_THREAD, "PYTHONUNBUFFERED": "1", **self.environment}


def beside_python(name: str) -> str:
    """Find a program that a wheel installed. Raises `BadDirectory` when it is missing."""
    folders = (sysconfig.get_path("scripts"), str(Path(sys.executable).parent))
    for folder in folders:
        found = shutil.which(name, path=folder)
        if found:
            return found
    found = shutil.which(name)
    if found is None:
        raise BadDirectory(f"the program {name} is not installed; install fedbus-local again")
    return found
