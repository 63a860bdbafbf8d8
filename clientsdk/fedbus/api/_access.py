"""Where the api is, and the token it asks for: given, from the environment, or of the local stack."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.wire import Message

from fedbus.errors import BadOption

PORT = 8080
LOCAL = "api.json"


@dataclass(frozen=True, slots=True)
class Access:
    """The api's address, as `http://127.0.0.1:8080`, and its bearer token, none if it asks for none."""

    url: str
    token: str | None = field(default=None, repr=False)


class _Local(Message):
    url: str
    token_file: str | None = None


def find(host: str | None, port: int | None, token: str | None, *, secure: bool) -> Access:
    """Give the api that is meant. Raises `BadOption` if there is none, or its token cannot be read.

    The local stack's token goes to the local stack only, never to a host that was named.
    """
    token = token or os.environ.get("FEDBUS_API_TOKEN") or _in_file("FEDBUS_API_TOKEN_FILE")
    host = host or os.environ.get("FEDBUS_API_URL")
    if host is None:
        local = _local()
        if token is None and local.token_file is not None:
            token = content(Path(local.token_file))
        return Access(local.url, token)
    if "://" in host:
        if port is not None:
            raise BadOption("host is a URL: write the port into it")
        return Access(host.rstrip("/"), token)
    return Access(
        f"{'https' if secure else 'http'}://{host}:{port or (443 if secure else PORT)}", token
    )


def _local() -> _Local:
    folder = Path(os.environ.get("FEDBUS_DIR", ".fedbus"))
    try:
        return read(_Local, (folder / LOCAL).read_bytes())
    except FileNotFoundError:
        raise BadOption(
            f"no api was named and there is no local stack in {folder}: start one with `fedbus up`, "
            "or set FEDBUS_API_URL and FEDBUS_API_TOKEN"
        ) from None
    except (OSError, Unreadable) as error:
        raise BadOption(f"{folder / LOCAL} cannot be read: {error}") from error


def _in_file(variable: str) -> str | None:
    path = os.environ.get(variable)
    return content(Path(path)) if path else None


def content(path: Path) -> str:
    """Read a token file. Raises `BadOption` when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"the token file {path} cannot be read: {error}") from error
