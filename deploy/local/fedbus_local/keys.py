"""The stack's secrets: made at the first start, kept for ever, one a file of mode 0600.

Nothing here reaches a command line or an environment variable: services get the names of the files.
"""

import json
import secrets
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedbus_schemas import nkeys, signing

from fedbus_local import identity
from fedbus_local.layout import Layout, write_private

SECRET_BYTES = 32


def ensure(layout: Layout) -> None:
    """Make what is missing; a second call changes nothing."""
    identity.ensure(layout.keys)
    _once(layout, "signing.seed", new_secret)
    _once(layout, "redis.password", lambda: secrets.token_urlsafe(SECRET_BYTES))
    _once(layout, "s3.access", lambda: secrets.token_hex(10))
    _once(layout, "s3.secret", lambda: secrets.token_urlsafe(SECRET_BYTES))
    _once(layout, "api.token", lambda: secrets.token_urlsafe(SECRET_BYTES))
    if not layout.trust.exists():
        write_private(layout.trust, json.dumps({"keys": [signing_public(layout)]}) + "\n")


def read(layout: Layout, name: str) -> str:
    """Read a secret."""
    return (layout.keys / name).read_text().strip()


def trusted(layout: Layout) -> tuple[str, ...]:
    """Give the public keys that may sign mail and heads."""
    return tuple(json.loads(layout.trust.read_text())["keys"])


def signing_public(layout: Layout) -> str:
    """Give the public half of the key that signs mail and heads."""
    raw = signing.decode(read(layout, "signing.seed"))
    return signing.encode(_public(raw))


def new_user_seed() -> str:
    """Make the seed of a NATS user."""
    return nkeys.user_seed(secrets.token_bytes(SECRET_BYTES))


def new_secret() -> str:
    """Make the secret half of a key that signs what is said."""
    return signing.encode(secrets.token_bytes(SECRET_BYTES))


def user_of(seed: str) -> str:
    """Give the public nkey of a NATS user's seed."""
    return nkeys.user_public(_public(nkeys.raw_seed(seed)))


def _public(raw: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()


def _once(layout: Layout, name: str, make: Callable[[], str]) -> None:
    path = layout.keys / name
    if not path.exists():
        write_private(path, make() + "\n")
