"""The text form of NATS keys: base32 of a prefix, 32 raw Ed25519 bytes, and a CRC-16 (XMODEM).

Only the encoding; whoever signs brings the signature library. Source: the nkeys specification of nats.io.
"""

import base64
import binascii
from enum import IntEnum

SEED = 18 << 3
_RAW_BYTES = 32


class Kind(IntEnum):
    """Whose key it is: the byte that the text begins with, as `O…`, `A…` or `U…`."""

    OPERATOR = 14 << 3
    ACCOUNT = 0
    USER = 20 << 3


class BadKey(ValueError):
    """The text is not a NATS key of the expected kind."""


def public(kind: Kind, raw: bytes) -> str:
    """Write a public key (`U…` for a user) from its 32 raw bytes."""
    return _encode(bytes([kind]) + raw)


def seed(kind: Kind, raw: bytes) -> str:
    """Write a seed (`SU…` for a user) from its 32 raw bytes."""
    return _encode(bytes([SEED | kind >> 5, (kind & 31) << 3]) + raw)


def raw_public(kind: Kind, text: str) -> bytes:
    """Read the 32 raw bytes of a public key. Raises `BadKey`."""
    decoded = _decode(text)
    if len(decoded) != _RAW_BYTES + 1 or decoded[0] != kind:
        raise BadKey(f"not the public key of a NATS {kind.name.lower()}")
    return decoded[1:]


def raw_seed(text: str, kind: Kind = Kind.USER) -> bytes:
    """Read the 32 raw bytes of a seed. Raises `BadKey`, which never repeats the seed."""
    decoded = _decode(text.strip())
    if len(decoded) != _RAW_BYTES + 2 or decoded[0] & 0xF8 != SEED:
        raise BadKey("not a seed; it begins with S and has 58 characters")
    if (decoded[0] & 7) << 5 | decoded[1] >> 3 != kind:
        raise BadKey(f"the seed is not of a NATS {kind.name.lower()}")
    return decoded[2:]


def user_public(raw: bytes) -> str:
    """Write a user's public key (`U…`) from its 32 raw bytes."""
    return public(Kind.USER, raw)


def user_seed(raw: bytes) -> str:
    """Write a user's seed (`SU…`) from its 32 raw bytes."""
    return seed(Kind.USER, raw)


def _encode(body: bytes) -> str:
    check = binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(body + check).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise BadKey("not base32") from error
    body, check = raw[:-2], raw[-2:]
    if binascii.crc_hqx(body, 0).to_bytes(2, "little") != check:
        raise BadKey("the check sum does not fit; the key was copied wrongly")
    return body
