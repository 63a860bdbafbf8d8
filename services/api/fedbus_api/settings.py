"""The api's settings."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.retention import RecordsRetention
from fedbus_runtime.settings import Port, Section, ServiceSettings
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.views import TrustView
from pydantic import Field


class ApiSection(Section):
    """REST and the event stream."""

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: Port = Field(default=8080, description="The port to listen on.")
    token_file: Path | None = Field(
        default=None,
        description="File with the bearer token that every /v1 route asks for; unset = none is asked.",
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


def read_trust(file: Path | None) -> TrustView:
    """Read the controllers' public keys. Raises `SettingsFault`."""
    if file is None:
        return TrustView()
    try:
        return read(TrustView, file.read_text())
    except (OSError, UnicodeDecodeError, Unreadable) as error:
        raise SettingsFault(f"FEDBUS_API__TRUST_FILE: cannot read {file}: {error}") from error
