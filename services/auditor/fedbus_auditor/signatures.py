"""Checks Ed25519 signatures, in the one form that a key and a signature have as text."""

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fedbus_schemas import signing

KEYS_MAX = 4096


def check(key: str, message: bytes, signature: str) -> bool:
    """Say whether the key made this signature; anything malformed is a no."""
    try:
        _key(key).verify(_raw(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=KEYS_MAX)
def _key(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(_raw(text))


def _raw(text: str) -> bytes:
    raw = signing.decode(text)
    if signing.encode(raw) != text:  # the last character has bits that decoding ignores
        raise ValueError("the base64url is not in its one form")
    return raw
