"""What every service is told by its environment: `FEDBUS_…`, nested with `__`, secrets only in files.

A service's own settings are fields of a subclass. A variable under the prefix that no field knows is
refused, so that a misspelt name does not silently leave a default in force.
"""

import difflib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from fedbus_schemas.ids import InstanceName
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from fedbus_runtime.errors import SettingsFault

PREFIX = "FEDBUS_"
NESTED = "__"
SECRET_BYTES_MAX = 16_384
HIDDEN = "(hidden)"
WELL_KNOWN = frozenset({"minioadmin", "admin", "password", "secret", "changeme", "fedbus", "redis"})
"""Secrets that stand in manuals and examples."""

_SECRET_WORDS = ("access_key", "password", "secret", "token")

Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LogSettings(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least level that is logged."
    )
    format: Literal["auto", "json", "pretty"] = Field(
        default="auto",
        description="json = one JSON object a line; pretty = for people; auto = pretty on a terminal.",
    )


class NatsSettings(Section):
    """The bus."""

    url: Annotated[str, Field(min_length=1)] = Field(
        default="nats://127.0.0.1:4222", description="The servers' addresses, separated by commas."
    )
    seed_file: Path | None = Field(
        default=None,
        description="File with this service's NATS user seed (SU…); unset = connect without signing in.",
    )
    token_file: Path | None = Field(
        default=None,
        description="File with the token (JWT) that the seed's user signs in with; unset = by the key alone.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="File with the certificates (PEM) that vouch for servers at tls://; unset = the system's.",
    )
    replicas: Annotated[int, Field(ge=1, le=5)] = Field(
        default=1, description="Copies the servers keep of each stream: 1, or 3 or 5 in a cluster."
    )

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses, one by one."""
        return tuple(url.strip() for url in self.url.split(",") if url.strip())


class RedisSettings(Section):
    """The live round state."""

    url: Annotated[str, Field(min_length=1)] = Field(
        default="redis://127.0.0.1:6379/0",
        description="The server's address: redis:// or rediss://, without the password.",
    )
    password_file: Path | None = Field(
        default=None, description="File with the server's password; unset = none is needed."
    )
    documents_age: Annotated[timedelta, Field(ge=timedelta(seconds=1))] = Field(
        default=timedelta(days=30),
        description="The api's documents go so long after they changed; when asked for they are made again.",
    )


class S3Settings(Section):
    """The object store."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^/]+$")] = Field(
        default="http://127.0.0.1:9000",
        description="Where services reach the store: scheme, host and port.",
    )
    public_endpoint: Annotated[str, Field(pattern=r"^https?://[^/]+$")] | None = Field(
        default=None,
        description="Where clients reach the store; signed into their grants. Unset = as the services.",
    )
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{2,62}$")] = Field(
        default="fedbus", description="The bucket; made at the start when it is missing."
    )
    access_key: str = Field(default="", description="The name of the store's access key.")
    secret_key_file: Path | None = Field(
        default=None, description="File with the secret that belongs to the access key."
    )
    region: Annotated[str, Field(min_length=1)] = Field(
        default="us-east-1", description="The region that requests are signed for."
    )


class HealthSettings(Section):
    """Where /healthz and /readyz are answered."""

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: Port = Field(default=0, description="The port to listen on; 0 = health is not served.")


class CrashSettings(Section):
    """Crash points: for tests only; see `crash_points.py`."""

    allow: bool = Field(
        default=False,
        description="For tests only: without it, a point or a file here is refused.",
    )
    at: str = Field(
        default="", description="For tests only: the crash point at which the service kills itself."
    )
    count: Annotated[int, Field(ge=1)] = Field(
        default=1, description="For tests only: at which passing of that point."
    )
    record: Path | None = Field(
        default=None,
        description="For tests only: a file to which every crash point that is passed is written.",
    )


def _this_host() -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:64] or "service"


class ServiceSettings(BaseSettings):
    """What every service needs. Services subclass this; `load` reads the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        frozen=True,
        extra="forbid",
        validate_default=True,
    )

    instance: InstanceName = Field(
        default_factory=_this_host,
        description="This process's name in logs and records; unset = the host's name.",
    )
    development: bool = Field(
        default=False,
        description="Start in spite of what is insecure, as servers without a password. Never in production.",
    )
    log: LogSettings = LogSettings()
    nats: NatsSettings = NatsSettings()
    redis: RedisSettings = RedisSettings()
    s3: S3Settings = S3Settings()
    health: HealthSettings = HealthSettings()
    crash: CrashSettings = CrashSettings()

    def insecure(self) -> Iterator[str]:
        """Name what is insecure in the settings, one variable each. Raises `SettingsFault`."""
        secrets = {
            "FEDBUS_NATS__SEED_FILE": self.nats.seed_file,
            "FEDBUS_REDIS__PASSWORD_FILE": self.redis.password_file,
            "FEDBUS_S3__SECRET_KEY_FILE": self.s3.secret_key_file,
        }
        for name, file in secrets.items():
            if file is None:
                yield f"{name}: it is not set"
            elif read_secret(file).lower() in WELL_KNOWN:
                yield f"{name}: {file} holds a secret that everybody knows"

    def demand_secure(self) -> None:
        """Raise `SettingsFault` for what is insecure, unless this is development."""
        faults = [] if self.development else list(self.insecure())
        if faults:
            hint = "for a try on this machine alone set FEDBUS_DEVELOPMENT=true"
            raise SettingsFault("; ".join([*faults, hint]))

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the environment. Raises `SettingsFault` that names every variable which is wrong."""
        known = {name for name, _ in variables(cls)}
        unknown = [name for name in environment if name.upper().startswith(PREFIX)]
        faults = [_unknown(name, known) for name in unknown if name.upper() not in known]
        if faults:
            raise SettingsFault("; ".join(sorted(faults)))
        try:
            return cls()
        except ValidationError as error:
            texts = [f"{_variable(each['loc'])}: {each['msg']}" for each in error.errors()]
            raise SettingsFault("; ".join(texts)) from error


def read_secret(file: Path) -> str:
    """Read a secret without the white space around it. Raises `SettingsFault`, which never shows it."""
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsFault(f"cannot read the secret in {file}: {error}") from error
    if not text or len(text) > SECRET_BYTES_MAX:
        raise SettingsFault(f"{file} should hold a secret and is empty or far too long")
    return text


def print_settings(settings: BaseSettings) -> str:
    """Write the settings in force as JSON, with what is secret hidden."""
    return json.dumps(_masked(settings.model_dump(mode="json")), indent=2)


def variables(model: type[BaseModel], prefix: str = PREFIX) -> Iterator[tuple[str, str]]:
    """Give every variable's name with its description; the docs' table is made from it."""
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from variables(kind, f"{variable}{NESTED}")
        else:
            yield variable, field.description or ""


def _masked(content: Mapping[str, object]) -> dict[str, object]:
    shown: dict[str, object] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            shown[name] = _masked(value)
        elif value and not name.endswith("_file") and any(word in name for word in _SECRET_WORDS):
            shown[name] = HIDDEN
        else:
            shown[name] = value
    return shown


def _unknown(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name.upper(), sorted(known), n=1)
    return f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else "")


def _variable(location: tuple[int | str, ...]) -> str:
    return PREFIX + NESTED.join(str(part).upper() for part in location)
