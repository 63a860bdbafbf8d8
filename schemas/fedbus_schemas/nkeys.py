"""The text form of NATS keys: base32 of a prefix, 32 raw Ed25519 bytes, and a CRC-16 (XMODEM).

Only the encoding; whoever signs brings the signature library. Source: the nkeys specification of nats.io.
"""

import base64
import binascii

USER = 20 << 3
SEED = 18 << 3
_RAW_BYTES = 32


class BadKey(ValueError):
    """The text is not a NATS key of the expected kind."""


def user_public(raw: bytes) -> str:
    """Write a user's public key (`U…`) from its 32 raw bytes."""
    return _encode(bytes([USER]) + raw)


def user_seed(raw: bytes) -> str:
    """Write a user's seed (`SU…`) from its 32 raw bytes."""
    return _encode(bytes([SEED | USER >> 5, (USER & 31) << 3]) + raw)


def raw_seed(text: str) -> bytes:
    """Read the 32 raw bytes of a user's seed. Raises `BadKey`, which never repeats the seed."""
    decoded = _decode(text.strip())
    if len(decoded) != _RAW_BYTES + 2 or decoded[0] & 0xF8 != SEED:
        raise BadKey("not a user seed; it begins with SU and has 58 characters")
    if (decoded[0] & 7) << 5 | decoded[1] >> 3 != USER:
        raise BadKey("the seed is not a user's; it begins with SU")
    return decoded[2:]


def _encode(body: bytes) -> str:
    check = binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(body + check).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error as error:
        raise BadKey("not base32") from error
    body, check = raw[:-2], raw[-2:]
    if binascii.crc_hqx(body, 0).to_bytes(2, "little") != check:
        raise BadKey("the check sum does not fit; the key was copied wrongly")
    return body
