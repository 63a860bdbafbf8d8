"""Loads a client's credentials, and says what is wrong with the file when it is."""

import os
import ssl
import stat
from pathlib import Path

from fedbus_schemas import nkeys
from fedbus_schemas.credentials import Credentials
from pydantic import ValidationError

from fedbus.errors import BadCredentials

FILE_BYTES_MAX = 64 * 1024
TLS_SCHEMES = ("tls://", "wss://")


def load(path: str | Path) -> Credentials:
    """Read a credentials file. Raises `BadCredentials`, which never repeats a secret.

    The file must be readable by its owner only (mode 0600): whoever can read it is the client.
    """
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadCredentials(f"cannot read the credentials {path}: {error.strerror}") from error
    if os.name == "posix" and stat.S_IMODE(mode) & _not_to_be_read_by(Path(path)):
        raise BadCredentials(
            f"others may read the credentials {path} (mode {stat.S_IMODE(mode):04o}); "
            f"say: chmod 600 {path}"
        )
    if len(content) > FILE_BYTES_MAX:
        raise BadCredentials(f"{path} is too large to be a credentials file")
    return _parse(content, path)


def _not_to_be_read_by(path: Path) -> int:
    """Give the bits of the mode that a secret file must not have.

    What systemd hands to a service it grants by an access list, which shows as the group's right to read.
    """
    handed = os.environ.get("CREDENTIALS_DIRECTORY")
    return 0o037 if handed and path.absolute().parent == Path(handed) else 0o077


def tls_of(credentials: Credentials) -> ssl.SSLContext | None:
    """Say whom to trust as a server, TLS 1.3 only; None where no server is reached by TLS.

    Raises `BadCredentials` for certificates that cannot be read.
    """
    if not any(server.lower().startswith(TLS_SCHEMES) for server in credentials.servers):
        return None
    try:
        context = ssl.create_default_context(cadata=credentials.ca)
    except (ssl.SSLError, ValueError) as error:
        raise BadCredentials(f"`ca` in the credentials holds no certificate: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _parse(content: bytes, path: str | Path) -> Credentials:
    try:
        credentials = Credentials.model_validate_json(content)
        nkeys.raw_seed(credentials.device_seed)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        # No cause: pydantic's own message repeats what it was given, and that is a secret.
        raise BadCredentials(f"{path} is not a credentials file: {place}: {first['msg']}") from None
    except nkeys.BadKey as error:
        raise BadCredentials(f"{path}: device_seed: {error}") from None
    return credentials
