"""Saved contexts: names for apis that an operator works with, in one file of mode 0600."""

import os
import ssl
from pathlib import Path

from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.wire import Message
from pydantic import Field

from fedbus import _files
from fedbus.errors import BadOption

LOCAL = "local"
"""The context that is always there: the local stack of the folder."""
MODE = 0o600


class Context(Message):
    """One api: where it is, and how one comes in. The token itself, or the file that holds it."""

    url: str
    project: str = "default"
    token: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    verify: bool = True


class Contexts(Message):
    """All saved contexts, and which one is used."""

    used: str = LOCAL
    contexts: dict[str, Context] = Field(default={})


def place() -> Path:
    """Give the file: `contexts.json` in FEDBUS_CONFIG_DIR, else in the user's folder for configuration."""
    own = os.environ.get("FEDBUS_CONFIG_DIR")
    if own:
        return Path(own) / "contexts.json"
    usual = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(usual) / "fedbus" / "contexts.json"


def load() -> Contexts:
    """Read the saved contexts. Raises `BadOption` if the file cannot be read, or others may read it."""
    path = place()
    try:
        if path.stat().st_mode & 0o077:
            raise BadOption(f"others may read {path}, which holds tokens; say: chmod 600 {path}")
        return read(Contexts, path.read_bytes())
    except FileNotFoundError:
        return Contexts()
    except (OSError, Unreadable) as error:
        raise BadOption(f"{path} cannot be read: {error}") from error


def save(contexts: Contexts) -> None:
    """Write them, whole or not at all."""
    path = place()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(path.name + _files.NEW)
    try:
        with os.fdopen(os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, MODE), "wb") as file:
            file.write(contexts.to_bytes())
        _files.move(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def chosen(name: str | None) -> Context | None:
    """Give the context that is named, or used. None is the local stack. Raises `BadOption`."""
    saved = load()
    wanted = name or os.environ.get("FEDBUS_CONTEXT") or saved.used
    if wanted == LOCAL:
        return None
    found = saved.contexts.get(wanted)
    if found is None:
        known = ", ".join([LOCAL, *sorted(saved.contexts)])
        raise BadOption(f"there is no context {wanted!r}; there are: {known}")
    return found


def trust(context: Context) -> bool | ssl.SSLContext:
    """Say how the api's certificate is checked. Raises `BadOption`."""
    if context.ca_file is None:
        return context.verify
    try:
        return ssl.create_default_context(cafile=context.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadOption(f"{context.ca_file} is no file of certificates: {error}") from error
