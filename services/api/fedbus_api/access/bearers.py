"""How bearer tokens are written, `<kind>_<id>_<secret>`, and how a secret is compared with what is kept of it.

The id finds the record; of the secret only the SHA-256 is kept.
"""

import hmac
import re
import secrets
from dataclasses import dataclass, field

from fedbus_schemas.codec import digest
from fedbus_schemas.ids import Sha256

ID_BYTES = 8
SECRET_BYTES = 32
_FORM = re.compile(r"([a-z]+)_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Made:
    """A new token: its id, what is kept of its secret, and the token itself, which is shown once."""

    id: str
    kept: Sha256
    bearer: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Given:
    """A token that somebody brings."""

    id: str
    secret: str = field(repr=False)

    def holds(self, kept: Sha256) -> bool:
        """Say whether the secret is the one that this was kept of."""
        return hmac.compare_digest(kept, digest(self.secret.encode()))


def make(kind: str) -> Made:
    """Make a token."""
    name, secret = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    return Made(name, digest(secret.encode()), f"{kind}_{name}_{secret}")


def given(kind: str, bearer: str) -> Given | None:
    """Read a token; None when it has not the form of this kind."""
    form = _FORM.fullmatch(bearer)
    return Given(form[2], form[3]) if form is not None and form[1] == kind else None
