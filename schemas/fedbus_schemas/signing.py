"""What exactly is signed: a domain string in front of the bytes, so that no signature fits two purposes.

The signature scheme is Ed25519 (RFC 8032). Keys and signatures are base64url without padding.
"""

import base64

MANIFEST = b"fl/manifest/v1\0"
MAIL = b"fl/mail/v1\0"
HEAD = b"fl/head/v1\0"
HELLO = b"fl/hello/v1\0"
ENROL = b"fl/enrol/v1\0"
RENEW = b"fl/renew/v1\0"
PACKAGE = b"fl/package/v1\0"
"""Over the hexadecimal SHA-256 of a compute package's archive."""


def message(domain: bytes, content: str) -> bytes:
    """Give the bytes to sign for `content` in `domain`."""
    return domain + content.encode()


def encode(raw: bytes) -> str:
    """Write a key or a signature."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Read a key or a signature. Raises `ValueError` when it is not base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
