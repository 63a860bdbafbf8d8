"""Who is who on the bus in operator mode: NATS's own JSON Web Tokens, signed with nkeys.

An operator vouches for accounts, an account's scoped signing key for users of one role. The permissions of
a role stand in the account's claims, so whoever holds the signing key of `client` can make clients and
nothing else, and no client that exists already: its key is its own. Source: NATS JWT, version 2.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from fedbus_schemas import nkeys
from fedbus_schemas.nkeys import BadKey, Kind

CHARS_MAX = 64 * 1024
ALGORITHM = "ed25519-nkey"

Claims: TypeAlias = Mapping[str, Any]  # JSON, as NATS defines it


class BadClaims(ValueError):
    """The text is no token of NATS, or nobody that counts has signed it."""


@dataclass(frozen=True, slots=True)
class BusKey:
    """A key pair of an operator, an account (or a signing key of it) or a user."""

    kind: Kind
    key: Ed25519PrivateKey

    @classmethod
    def read(cls, kind: Kind, seed: str) -> Self:
        """Read a seed. Raises `BadKey`."""
        return cls(kind, Ed25519PrivateKey.from_private_bytes(nkeys.raw_seed(seed, kind)))

    @property
    def public(self) -> str:
        """The public key's text."""
        return nkeys.public(self.kind, self.key.public_key().public_bytes_raw())


def sign(
    by: BusKey,
    subject: str,
    claims: Claims,
    *,
    name: str,
    issued: datetime,
    expires: datetime | None = None,
) -> str:
    """Write a token in which `by` says these `claims` of the public key `subject`."""
    content: dict[str, Any] = {
        "iat": int(issued.timestamp()),
        "iss": by.public,
        "name": name,
        "sub": subject,
        "nats": claims,
    }
    if expires is not None:
        content["exp"] = int(expires.timestamp())
    mark = hashlib.new("sha512_256", _json(content)).digest()
    content["jti"] = base64.b32encode(mark).decode().rstrip("=")
    said = f"{_text(_json({'typ': 'JWT', 'alg': ALGORITHM}))}.{_text(_json(content))}"
    return f"{said}.{_text(by.key.sign(said.encode()))}"


def sign_user(
    by: BusKey,
    account: str,
    subject: str,
    *,
    name: str,
    project: str,
    issued: datetime,
    expires: datetime | None = None,
) -> str:
    """Write a user's token under a scoped signing key: all that the user may do is in the scope."""
    tags = [f"project:{project}"] if project else []
    claims = {"type": "user", "version": 2, "issuer_account": account, "tags": tags}
    return sign(by, subject, claims, name=name, issued=issued, expires=expires)


def read(text: str) -> Claims:
    """Read a token and check that its issuer signed it; who that is, the caller has to judge.

    Raises `BadClaims`, whatever the text.
    """
    parts = text.strip().split(".") if len(text) <= CHARS_MAX else []
    if len(parts) != 3:
        raise BadClaims("a token has three parts")
    try:
        header, content = json.loads(_bytes(parts[0])), json.loads(_bytes(parts[1]))
        if not isinstance(header, dict) or header.get("alg") != ALGORITHM:
            raise BadClaims("it is not signed as NATS signs")
        issuer = str(content["iss"])
        kind = Kind.OPERATOR if issuer.startswith("O") else Kind.ACCOUNT
        key = Ed25519PublicKey.from_public_bytes(nkeys.raw_public(kind, issuer))
        key.verify(_bytes(parts[2]), f"{parts[0]}.{parts[1]}".encode())
    except (BadKey, InvalidSignature, KeyError, TypeError, RecursionError, ValueError) as error:
        raise BadClaims(f"the token cannot be read: {type(error).__name__}") from error
    return {**content}


def with_revocations(
    account: Claims, by: BusKey, revoked: Mapping[str, datetime], now: datetime
) -> str:
    """Write an account's token anew: its users in `revoked` are refused with what was signed until then."""
    times = {device: int(at.timestamp()) for device, at in sorted(revoked.items())}
    claims = {**account["nats"], "revocations": times}
    return sign(by, account["sub"], claims, name=account["name"], issued=now)


def revocations(account: Claims) -> dict[str, datetime]:
    """Give the users that an account's token says are revoked, and since when."""
    found = account["nats"].get("revocations") or {}
    return {device: datetime.fromtimestamp(int(at), UTC) for device, at in found.items()}


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise BadClaims("a part is not base64url") from error
