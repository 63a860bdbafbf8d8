"""Ed25519 as RFC 8032 defines it, section 5.1, with nothing but the standard library.

Plain and slow: some milliseconds a signature, and its time depends on the key. A real client takes its
language's library instead.
"""

from hashlib import sha512
from typing import TypeAlias

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, PRIME) % PRIME
ROOT = pow(2, (PRIME - 1) // 4, PRIME)
BYTES = 32

Point: TypeAlias = tuple[int, int, int, int]
"""X, Y, Z and T, where x = X/Z, y = Y/Z and T = XY/Z."""
ZERO: Point = (0, 1, 1, 0)


def public(seed: bytes) -> bytes:
    """Give the public key of a 32 byte seed."""
    return _packed(_times(_secret(seed)[0], BASE))


def sign(seed: bytes, message: bytes) -> bytes:
    """Sign: 64 bytes."""
    scalar, prefix = _secret(seed)
    nonce = _number(prefix, message)
    point = _packed(_times(nonce, BASE))
    challenge = _number(point, public(seed), message)
    return point + ((nonce + challenge * scalar) % ORDER).to_bytes(BYTES, "little")


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether the owner of this public key signed exactly this message."""
    if len(key) != BYTES or len(signature) != 2 * BYTES:
        return False
    scalar = int.from_bytes(signature[BYTES:], "little")
    owner, nonce = _point(key), _point(signature[:BYTES])
    if owner is None or nonce is None or scalar >= ORDER:
        return False
    challenge = _number(signature[:BYTES], key, message)
    return _packed(_times(scalar, BASE)) == _packed(_plus(nonce, _times(challenge, owner)))


def _secret(seed: bytes) -> tuple[int, bytes]:
    digest = sha512(seed).digest()
    scalar = int.from_bytes(digest[:BYTES], "little")
    return (scalar & ((1 << 254) - 8)) | (1 << 254), digest[BYTES:]


def _number(*parts: bytes) -> int:
    return int.from_bytes(sha512(b"".join(parts)).digest(), "little") % ORDER


def _plus(one: Point, other: Point) -> Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % PRIME
    b = (one[1] + one[0]) * (other[1] + other[0]) % PRIME
    c = 2 * one[3] * other[3] * D % PRIME
    d = 2 * one[2] * other[2] % PRIME
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def _times(scalar: int, point: Point) -> Point:
    result = ZERO
    while scalar:
        if scalar & 1:
            result = _plus(result, point)
        point = _plus(point, point)
        scalar >>= 1
    return result


def _packed(point: Point) -> bytes:
    inverse = pow(point[2], -1, PRIME)
    x, y = point[0] * inverse % PRIME, point[1] * inverse % PRIME
    return (y | (x & 1) << 255).to_bytes(BYTES, "little")


def _point(raw: bytes) -> Point | None:
    number = int.from_bytes(raw, "little")
    y, odd = number & ((1 << 255) - 1), number >> 255
    if y >= PRIME:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * ROOT % PRIME
    if (x * x - square) % PRIME or (x == 0 and odd):
        return None
    if x & 1 != odd:
        x = PRIME - x
    return x, y, 1, x * y % PRIME


BASE = _point((4 * pow(5, -1, PRIME) % PRIME).to_bytes(BYTES, "little")) or ZERO
