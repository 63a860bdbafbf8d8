"""What `fedbus client install` writes: pure, as files by their places; and how they are written."""

import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fedbus.errors import BadOption

UNIT = "fedbus-client@.service"
PROGRAM = "/opt/fedbus/current/bin/fedbus"
"""Where the unit looks for the program, as it is shipped."""
SYSUSERS = """# The user of fedbus' clients. Written by `fedbus client install`.
u fedbus - "fedbus client" /var/lib/fedbus
"""


@dataclass(frozen=True, slots=True)
class File:
    """A file to write: its place below the root, its content and mode. `is_ours`: may be written again."""

    place: str
    content: bytes
    mode: int = 0o644
    is_ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to install. `code` are the lines of the table [code]; `program` is the `fedbus` to run."""

    name: str
    credentials: bytes
    policy: bytes | None = None
    code: tuple[tuple[str, str | float], ...] = ()
    program: str = PROGRAM


def files(wanted: Wanted) -> tuple[File, ...]:
    """Give what is to be written."""
    place = f"etc/fedbus/{wanted.name}"
    unit = resources.files("fedbus.gateway").joinpath(UNIT).read_text(encoding="utf-8")
    made = [
        File(f"{place}/client.toml", _configuration(wanted).encode()),
        File(f"{place}/credentials.json", wanted.credentials, 0o600),
        File(
            f"etc/systemd/system/{UNIT}",
            unit.replace(PROGRAM, wanted.program).encode(),
            is_ours=True,
        ),
        File("etc/sysusers.d/fedbus.conf", SYSUSERS.encode(), is_ours=True),
    ]
    if wanted.policy is not None:
        made.append(File(f"{place}/policy.toml", wanted.policy))
    return tuple(made)


def write(root: Path, made: tuple[File, ...], *, force: bool) -> None:
    """Write the files below `root`, all or, where one is in the way, none. Raises `BadOption`."""
    for file in made:
        if not file.is_ours and not force and (root / file.place).exists():
            raise BadOption(f"{root / file.place} is there already; say --force to replace it")
    try:
        for file in made:
            _write(root / file.place, file)
    except OSError as error:
        raise BadOption(f"{error.filename} cannot be written: {error.strerror}") from error


def _write(path: Path, file: File) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode)
    with os.fdopen(number, "wb") as out:
        out.write(file.content)
        out.flush()
        os.fsync(out.fileno())
    beside.chmod(file.mode)
    beside.replace(path)


def _configuration(wanted: Wanted) -> str:
    name = wanted.name
    code = "\n".join(f"{key} = {json.dumps(value)}" for key, value in wanted.code)
    policy = 'policy = "policy.toml"' if wanted.policy is not None else '# policy = "policy.toml"'
    return f"""# The client {name}. `fedbus client start --config FILE` reads it; docs/gateway.md says more.
# The credentials lie beside this file; the service is given them by systemd.
credentials = "credentials.json"

[code]  # what this site runs; without a word: the compute package of each session
{code or '# local_package = "/opt/site/client"'}

[options]  # every option of a client: docs/settings.md
state_dir = "/var/lib/fedbus/{name}"
cache_dir = "/var/cache/fedbus/{name}"
alive_file = "/var/lib/fedbus/{name}/alive"
compute_lock = "/run/fedbus"
{policy}

[log]
level = "info"
"""
