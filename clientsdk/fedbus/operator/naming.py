"""What people may write for an id: a client's or package's name, the beginning of a SHA-256."""

import re

from fedbus.api import APIClient, ApiError
from fedbus.errors import BadOption

PREFIX = re.compile(r"[0-9a-f]{6,64}")
PSEUDONYM = re.compile(r"c[a-z2-7]{16}")


def clients(api: APIClient, text: str) -> list[str]:
    """Give the pseudonyms of the clients with this name, or the text itself if it is one. Raises `ApiError`."""
    if found := [one.client for one in api.get_clients(filters={"name": text})]:
        return found
    if PSEUDONYM.fullmatch(text):
        return [text]
    raise ApiError("not_found", f"no client is named {text}", 404)


def client(api: APIClient, text: str) -> str:
    """Give the pseudonym of a client by its name or pseudonym. Raises `BadOption` if several have the name."""
    found = clients(api, text)
    if len(found) > 1:
        raise BadOption(f"{len(found)} clients are named {text!r}: {', '.join(found)}")
    return found[0]


def model(api: APIClient, text: str) -> str:
    """Give a model's SHA-256 by its beginning, or of the newest one (`newest`). Raises as `package`."""
    if text == "newest":
        return api.get_active_model().digest
    filters = _beginning(text, "model")
    found = [one.digest for one in api.get_models(filters=filters) if one.digest.startswith(text)]
    return _only(found, "model", text)


def package(api: APIClient, text: str) -> str:
    """Give a package's SHA-256 by its name or its beginning. Raises `ApiError`, `BadOption` if several fit."""
    if named := [one.digest for one in api.get_packages(filters={"name": text})]:
        return _only(named, "package", text)
    filters = _beginning(text, "package")
    found = [one.digest for one in api.get_packages(filters=filters) if one.digest.startswith(text)]
    return _only(found, "package", text)


def _beginning(text: str, what: str) -> dict[str, str]:
    if not PREFIX.fullmatch(text):
        detail = f"no {what} has the name {text!r} or a SHA-256 that begins so"
        raise ApiError("not_found", detail, 404)
    return {"digest__contains": text}


def _only(found: list[str], what: str, text: str) -> str:
    if not found:
        raise ApiError("not_found", f"{what} {text}", 404)
    if len(found) > 1:
        raise BadOption(f"{len(found)} {what}s are meant by {text!r}: {', '.join(found[:8])}")
    return found[0]
