"""A client's configuration file: what it runs, and every option that a client has.

TOML and strict: a key that is not known is refused with its name. Relative paths are taken from the file's own
folder.
"""

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedbus.errors import BadOption
from fedbus.options import Options
from fedbus.packages.limits import MIB, RunLimits

PATHS = ("state_dir", "cache_dir", "alive_file", "policy")
NO_FOLDERS = ("off", "host")
"""Values of `compute_lock` that are no folder."""
STATE = Path("fedbus-state")
"""Where a client that was given no folder keeps its packages and what waits."""


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Code(Section):
    """What this site runs. Without a word: the compute package of each session, as far as the policy allows."""

    local_package: Path | None = None
    train: str = ""
    validate_by: Annotated[str, Field(alias="validate")] = ""
    python_path: Path | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    memory_mib: Annotated[int, Field(ge=16)] = 8192

    @property
    def limits(self) -> RunLimits:
        """What one run of a package may take."""
        return RunLimits(timeout_s=self.timeout_s, memory_bytes=self.memory_mib * MIB)


class Log(Section):
    """What is written to the standard error output."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Configuration(Section):
    """The whole file. `options` are the fields of `fedbus.Options`, which checks them."""

    credentials: Path | None = None
    code: Code = Code()
    options: dict[str, Any] = {}
    log: Log = Log()

    def made(self) -> Options:
        """Give the client's options. Raises `BadOption`."""
        if self.credentials is None:
            raise BadOption("credentials are missing: name the file that `fedbus client add` wrote")
        known = {one.name for one in fields(Options)} - {"credentials"}
        strange = sorted(self.options.keys() - known)
        if strange:
            raise BadOption(f"[options] {strange[0]} is no option; docs/settings.md lists them")
        try:
            return Options(credentials=self.credentials, **self.options)
        except TypeError as error:
            raise BadOption(f"[options]: {error}") from error

    @property
    def state_dir(self) -> Path:
        """Where packages lie and what waits."""
        return Path(self.options.get("state_dir") or STATE)


def load(path: Path) -> Configuration:
    """Read a configuration file. Raises `BadOption`, which says where and what."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        found = Configuration.model_validate(document)
    except OSError as error:
        raise BadOption(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadOption(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadOption(f"{path}: {place}: {first['msg']}") from error
    if found.code.local_package is not None and found.code.train:
        raise BadOption(f"{path}: [code] has a local_package or a train function, not both")
    if found.code.validate_by and not found.code.train:
        raise BadOption(f"{path}: [code] validate belongs to a train function")
    return _placed(found, path.absolute().parent)


def _placed(found: Configuration, folder: Path) -> Configuration:
    """Take relative paths from the file's folder."""
    options = dict(found.options)
    for name in PATHS:
        if isinstance(options.get(name), str):
            options[name] = folder / options[name]
    lock = options.get("compute_lock")
    if isinstance(lock, str) and lock not in NO_FOLDERS:
        options["compute_lock"] = folder / lock
    code = found.code.model_copy(
        update={
            name: folder / value
            for name in ("local_package", "python_path")
            if (value := getattr(found.code, name)) is not None
        }
    )
    credentials = None if found.credentials is None else folder / found.credentials
    return found.model_copy(update={"credentials": credentials, "options": options, "code": code})
