"""Joins a federation: makes the device's two keys, proves the first, and writes the credentials file.

The private keys never leave the device. The same keys are tried again until there is an answer: they are
kept beside the file until then, so that a lost answer or a crash uses up no second place of a join token.
"""

import base64
import json
import re
import secrets
import socket
import ssl
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from fedbus_schemas import nkeys, signing
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.device_views import EnrolledView, EnrolRequest, RenewRequest
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.wire import Message
from pydantic import ValidationError

from fedbus import _files
from fedbus._keys import Keys
from fedbus.errors import BadCredentials, FedbusError, Refused

TIMEOUT_S = 20.0
ANSWER_BYTES_MAX = 256 * 1024
SECRET_BYTES = 32
PASSING = (429, 500, 502, 503, 504)
"""Answers after which the same request may succeed."""
PLACEHOLDER = "A" * 43


def enrol(
    api: str, join_token: str, path: Path, *, name: str = "device", ca: Path | None = None
) -> Credentials:
    """Enrol this device at an api and write its credentials to `path` (mode 0600).

    `ca` holds the certificates (PEM) that vouch for the api, for one with an authority of its own. Raises
    `Refused` with the server's reason, `BadCredentials` when `path` exists, and `FedbusError` when the api
    cannot be reached: then the same call may be made again.
    """
    if path.exists():
        raise BadCredentials(f"{path} exists; credentials are not overwritten")
    half = path.with_name(f".{path.name}.keys")
    begun = _begun(half, api, name)
    keys = Keys(begun)
    now = datetime.fromtimestamp(time.time(), UTC)
    asked = EnrolRequest(
        join_token=join_token, device=keys.device, name=name, time=now, proof="A" * 86
    )
    proved = asked.model_copy(update={"proof": keys.prove(signing.ENROL, asked.said())})
    try:
        answer = _post(f"{api.rstrip('/')}/v1/enrol", proved, ca)
    except Refused:
        half.unlink(missing_ok=True)
        raise
    made = _joined(begun, answer)
    _files.write_private(path, made.model_dump_json(indent=2).encode() + b"\n")
    half.unlink(missing_ok=True)
    return made


def renew(credentials: Credentials, keys: Keys) -> Credentials:
    """Get the next token at the api, by the device key alone. Raises as `enrol`."""
    assert credentials.api is not None, "a device that never enrolled at an api"
    now = datetime.fromtimestamp(time.time(), UTC)
    asked = RenewRequest(project=credentials.project, device=keys.device, time=now, proof="A" * 86)
    proved = asked.model_copy(update={"proof": keys.prove(signing.RENEW, asked.said())})
    return _joined(credentials, _post(f"{credentials.api.rstrip('/')}/v1/enrol/renew", proved))


def _begun(half: Path, api: str, name: str) -> Credentials:
    """Give the keys of an enrolment that was begun, or new ones."""
    try:
        return Credentials.model_validate_json(half.read_bytes())
    except (FileNotFoundError, ValidationError):
        pass
    made = Credentials(
        project="default",
        name=name,
        servers=("unknown",),
        device_seed=nkeys.user_seed(secrets.token_bytes(SECRET_BYTES)),
        payload_seed=signing.encode(secrets.token_bytes(SECRET_BYTES)),
        trust=(PLACEHOLDER,),
        api=api,
    )
    half.parent.mkdir(parents=True, exist_ok=True)
    _files.write_private(half, made.model_dump_json().encode())
    return made


def _joined(credentials: Credentials, answer: EnrolledView) -> Credentials:
    if not answer.servers:
        raise FedbusError(
            "the api does not say where the bus is: set FEDBUS_API__BUS_SERVERS there"
        )
    told = {
        "project": answer.project,
        "servers": answer.servers,
        "token": answer.token,
        "trust": answer.trust,
        "ca": answer.ca,
    }
    return Credentials.model_validate({**dict(credentials), **told})


def _post(url: str, content: Message, ca: Path | None = None) -> EnrolledView:
    if not url.startswith(("https://", "http://")):
        raise FedbusError(f"{url}: an address begins with https:// (or http:// on this machine)")
    context = None
    if url.startswith("https://"):
        context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, content.to_bytes(), headers)  # noqa: S310  # checked above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:  # noqa: S310
            return EnrolledView.model_validate_json(answer.read(ANSWER_BYTES_MAX))
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error, error.read(ANSWER_BYTES_MAX)) from error
    except (OSError, ssl.SSLError) as error:
        raise FedbusError(f"the api at {url} cannot be reached: {error}") from error
    except ValidationError as error:
        raise FedbusError(f"the api at {url} answers something else") from error


def _refused(error: urllib.error.HTTPError, body: bytes) -> FedbusError:
    try:
        problem = json.loads(body)
        code, detail = RefusalCode(problem["code"]), str(problem["detail"])
    except (KeyError, TypeError, ValueError):
        return FedbusError(f"{error.url} answers {error.code}: {error.reason}")
    if error.code in PASSING:
        return FedbusError(f"not now: {detail}; say the same again in a moment")
    return Refused(code, detail)


def token_times(token: str) -> tuple[float, float]:
    """Give when a token was signed and when it ends, in seconds since 1970."""
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return float(claims["iat"]), float(claims.get("exp", "inf"))


def default_name() -> str:
    """Name this device as its host is named, as far as a name may hold it."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("._-")[:64] or "device"
