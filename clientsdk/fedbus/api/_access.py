"""Where the api is, and its token: given, from the environment, a saved context, or the local stack."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.wire import Message

from fedbus.api import _contexts
from fedbus.errors import BadOption

PORT = 8080
PROJECT = "default"
LOCAL = "api.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The api's address, as `http://127.0.0.1:8080`, its bearer token if it asks for one, and the project."""

    url: str
    token: str | None = field(default=None, repr=False)
    project: str = PROJECT
    verify: bool | SSLContext = True


class _Local(Message):
    url: str
    token_file: str | None = None


def find(
    host: str | None = None,
    port: int | None = None,
    token: str | None = None,
    *,
    secure: bool = False,
    verify: bool | SSLContext = True,
    project: str | None = None,
    context: str | None = None,
) -> Access:
    """Give the api that is meant. Raises `BadOption` if there is none, or its token cannot be read.

    A context that is named comes before the environment, a context that is merely used after it. The token
    of a context or of the local stack goes nowhere else, never to a host that was named.
    """
    token = token or os.environ.get("FEDBUS_API_TOKEN") or _in_file("FEDBUS_API_TOKEN_FILE")
    project = project or os.environ.get("FEDBUS_PROJECT")
    if host is not None and context is not None:
        raise BadOption("say either an api's address or a context")
    host = host or (None if context else os.environ.get("FEDBUS_API_URL"))
    if host is None:
        return _saved(_contexts.chosen(context), token, project)
    if "://" in host:
        if port is not None:
            raise BadOption("host is a URL: write the port into it")
        url = host.rstrip("/")
    else:
        url = f"{'https' if secure else 'http'}://{host}:{port or (443 if secure else PORT)}"
    return Access(url=url, token=token, project=project or PROJECT, verify=verify)


def content(path: Path) -> str:
    """Read a token file. Raises `BadOption` when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"the token file {path} cannot be read: {error}") from error


def _saved(context: _contexts.Context | None, token: str | None, project: str | None) -> Access:
    if context is None:
        local = _local()
        if token is None and local.token_file is not None:
            token = content(Path(local.token_file))
        return Access(url=local.url, token=token, project=project or PROJECT)
    if context.token_file is not None:
        token = content(Path(context.token_file))
    return Access(
        url=context.url,
        token=context.token or token,
        project=project or context.project,
        verify=_contexts.trust(context),
    )


def _local() -> _Local:
    folder = Path(os.environ.get("FEDBUS_DIR", ".fedbus"))
    try:
        return read(_Local, (folder / LOCAL).read_bytes())
    except FileNotFoundError:
        raise BadOption(
            f"no api was named and there is no local stack in {folder}: start one with `fedbus up`, "
            "name one with `fedbus context add`, or set FEDBUS_API_URL and FEDBUS_API_TOKEN"
        ) from None
    except (OSError, Unreadable) as error:
        raise BadOption(f"{folder / LOCAL} cannot be read: {error}") from error


def _in_file(variable: str) -> str | None:
    path = os.environ.get(variable)
    return content(Path(path)) if path else None
