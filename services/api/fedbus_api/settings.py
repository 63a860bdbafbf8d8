"""The api's settings."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.retention import RecordsRetention, Retention
from fedbus_runtime.settings import Port, Section, ServiceSettings
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.views import TrustView
from pydantic import Field


class OidcSection(Section):
    """Sign-in by an OpenID Connect issuer."""

    issuer: Annotated[str, Field(pattern=r"^(https?://[^ ]+)?$")] = Field(
        default="", description="The issuer's address, exactly as it writes it; empty = none."
    )
    audience: str = Field(
        default="fedbus", description="What a token's `aud` must name: this api, at the issuer."
    )
    roles_claim: str = Field(
        default="roles", description="The claim that holds a caller's groups or roles."
    )
    roles: dict[str, str] = Field(
        default={},
        description="What the claim's values stand for, as JSON: `admin`, `operator`, `auditor` or `viewer` in "
        'every project, `viewer@PROJECT` in one: {"fl-admins": "admin", "team-a": "operator@a"}.',
    )
    ca_file: Path | None = Field(
        default=None,
        description="File with the certificates (PEM) that vouch for the issuer; unset = the usual ones.",
    )


class ApiSection(Section):
    """REST and the event stream."""

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: Port = Field(default=8080, description="The port to listen on.")
    token_file: Path | None = Field(
        default=None,
        description="File with the first administrator's bearer token, with which others are made. Unset, and "
        "no OIDC issuer: anyone may do anything, in development only.",
    )
    oidc: OidcSection = OidcSection()
    requests_per_s: Annotated[float, Field(gt=0)] = Field(
        default=1000.0, description="Requests a second that one caller may make of this process."
    )
    requests_burst: Annotated[int, Field(ge=1)] = Field(
        default=2000, description="Requests that one caller may make at once."
    )
    body_bytes_max: Annotated[int, Field(ge=1024)] = Field(
        default=1024 * 1024,
        description="The largest request body, in bytes, of all but uploads of models and packages.",
    )
    bus_servers: str = Field(
        default="",
        description="Addresses of NATS as devices reach it, separated by commas; told to those that enrol.",
    )
    bus_ca_file: Path | None = Field(
        default=None,
        description="File with the certificates (PEM) that vouch for NATS; told to those that enrol.",
    )
    trusted_proxies: str = Field(
        default="",
        description="Addresses or networks, separated by commas, whose X-Forwarded-For says who calls.",
    )
    trust_file: Path | None = Field(
        default=None,
        description='File with the controllers\' public keys, {"keys": […]}; unset = none are told.',
    )
    model_bytes_max: Annotated[int, Field(ge=1)] = Field(
        default=2 * 1024**3, description="The largest model that may be uploaded, in bytes."
    )
    package_bytes_max: Annotated[int, Field(ge=1)] = Field(
        default=256 * 1024**2,
        description="The largest compute package that may be uploaded, in bytes.",
    )
    inspected_bytes_max: Annotated[int, Field(ge=1)] = Field(
        default=512 * 1024**2,
        description="The largest model whose tensors are described, in bytes: it is read into memory.",
    )
    decision_wait: timedelta = Field(
        default=timedelta(seconds=10),
        description="How long a command's answer waits for the controllers' decision.",
    )
    online_lease: timedelta = Field(
        default=timedelta(seconds=30),
        description="A client counts as online for so long after it was heard of.",
    )
    event_streams_max: Annotated[int, Field(ge=1)] = Field(
        default=200, description="Event streams that this process serves at once."
    )


class ApiSettings(ServiceSettings):
    """What an api process needs beyond the servers."""

    api: ApiSection = ApiSection()
    records: RecordsRetention = RecordsRetention()
    retention: Retention = Retention()

    def insecure(self) -> Iterator[str]:
        """Name what is insecure, as every service, and an api that asks nobody who they are."""
        yield from super().insecure()
        if self.api.token_file is None and not self.api.oidc.issuer:
            yield "FEDBUS_API__TOKEN_FILE: neither this nor FEDBUS_API__OIDC__ISSUER is set"


def read_trust(file: Path | None) -> TrustView:
    """Read the controllers' public keys. Raises `SettingsFault`."""
    if file is None:
        return TrustView()
    try:
        return read(TrustView, file.read_text())
    except (OSError, UnicodeDecodeError, Unreadable) as error:
        raise SettingsFault(f"FEDBUS_API__TRUST_FILE: cannot read {file}: {error}") from error


def read_ca(file: Path | None) -> str | None:
    """Read the certificates that devices are told. Raises `SettingsFault`."""
    if file is None:
        return None
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsFault(f"FEDBUS_API__BUS_CA_FILE: cannot read {file}: {error}") from error
