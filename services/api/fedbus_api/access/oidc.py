"""Sign-in by an OpenID Connect issuer: JSON Web Tokens (RFC 7519) checked against the issuer's keys.

Everything is found from the issuer's address (OpenID Connect Discovery 1.0). Keys are fetched again when a
token names one that is not known, at most every `REFRESH_MIN_S`; while the issuer is away those that are
known go on to hold.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import jwt
import urllib3
from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.ports import Clock
from fedbus_schemas.identities import Role
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.refusals import RefusalCode

from fedbus_api.access.identity import Identity, Roles
from fedbus_api.problems import Problem
from fedbus_api.settings import OidcSection

ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
"""Only those with a public key: a token signed with a shared secret or not at all is refused."""
DISCOVERY = "/.well-known/openid-configuration"
TOKEN_CHARS_MAX = 16_384
ANSWER_BYTES_MAX = 1024 * 1024
FETCH_TIMEOUT_S = 5.0
REFRESH_MIN_S = 10.0
LEEWAY_S = 60.0
"""How far the issuer's clock and ours may be apart."""
ROLES_MAX = 100
_REQUIRED = ["exp", "iat", "iss", "sub", "aud"]


class IssuerAway(Exception):
    """The issuer does not answer, or not as OpenID Connect has it."""


class Oidc:
    """Checks tokens of one issuer."""

    def __init__(self, settings: OidcSection, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._known = dict(mapping(settings.roles))
        ca = str(settings.ca_file) if settings.ca_file is not None else None
        self._http = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(FETCH_TIMEOUT_S), ca_certs=ca
        )
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched: float | None = None
        self._fetching = asyncio.Lock()

    async def identify(self, bearer: str) -> Identity | None:
        """Find whose token this is; None when it is no JSON Web Token. Raises `Problem`."""
        if bearer.count(".") != 2 or len(bearer) > TOKEN_CHARS_MAX:
            return None
        try:
            header = jwt.get_unverified_header(bearer)
            key = await self._key(str(header.get("kid", "")))
            claims = self._decode(bearer, key)
        except jwt.ExpiredSignatureError as error:
            detail = (
                "the token has ended; sign in again (if it is new, compare this machine's clock)"
            )
            raise Problem(RefusalCode.TOKEN_EXPIRED, detail) from error
        except jwt.ImmatureSignatureError as error:
            detail = "the token begins in the future: the issuer's clock and the api's are apart"
            raise _unauthorized(detail) from error
        except (jwt.PyJWTError, ValueError) as error:
            raise _unauthorized(f"the token does not hold: {error}") from error
        return self._identity(claims)

    def _decode(self, bearer: str, key: jwt.PyJWK) -> Mapping[str, Any]:
        if key.algorithm_name not in ALGORITHMS:
            raise jwt.InvalidAlgorithmError(f"the key is for {key.algorithm_name}")
        return jwt.decode(
            bearer,
            key,
            algorithms=[key.algorithm_name],
            audience=self._settings.audience,
            issuer=self._settings.issuer,
            leeway=LEEWAY_S,
            options={"require": _REQUIRED},
        )

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        subject = str(claims["sub"])
        name = str(claims.get("preferred_username") or claims.get("email") or subject)[:128]
        return Identity(
            id=f"oidc:{subject[:256]}",
            name=name,
            kind="oidc",
            roles=roles_of(claims.get(self._settings.roles_claim), self._known),
            expires=datetime.fromtimestamp(int(claims["exp"]), UTC),
        )

    async def _key(self, name: str) -> jwt.PyJWK:
        async with self._fetching:
            now = self._clock.monotonic()
            stale = self._fetched is None or now - self._fetched >= REFRESH_MIN_S
            if name not in self._keys and stale:
                self._fetched = now
                try:
                    self._keys = await asyncio.to_thread(self._fetch)
                except IssuerAway as away:
                    self._fetched = None if not self._keys else now
                    detail = f"the issuer {self._settings.issuer}: {away}"
                    raise Problem(RefusalCode.RETRY_LATER, detail) from away
        if name not in self._keys:
            raise jwt.InvalidKeyError("it is signed with a key that the issuer does not name")
        return self._keys[name]

    def _fetch(self) -> dict[str, jwt.PyJWK]:
        """Fetch the issuer's keys. Runs in a thread."""
        issuer = self._settings.issuer
        document = self._get(issuer.rstrip("/") + DISCOVERY)
        if document.get("issuer") != issuer:
            raise IssuerAway(f"it calls itself {document.get('issuer')!r}; set exactly that")
        place = str(document.get("jwks_uri", ""))
        if not place.startswith(("https://", "http://")) or (
            issuer.startswith("https://") and not place.startswith("https://")
        ):
            raise IssuerAway("its document names no place of its keys that can be trusted")
        try:
            found = jwt.PyJWKSet.from_dict(self._get(place))
        except jwt.PyJWTError as error:
            raise IssuerAway(f"its keys cannot be read: {error}") from error
        return {str(key.key_id or ""): key for key in found.keys}

    def _get(self, url: str) -> dict[str, Any]:
        try:
            answer = self._http.request("GET", url, redirect=False, preload_content=False)
            try:
                content = answer.read(ANSWER_BYTES_MAX + 1)
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise IssuerAway(f"{url} does not answer: {error}") from error
        if answer.status != 200 or len(content) > ANSWER_BYTES_MAX:
            raise IssuerAway(f"{url} answers {answer.status} with {len(content)} bytes")
        try:
            document = json.loads(content)
        except ValueError as error:
            raise IssuerAway(f"{url} does not answer in JSON") from error
        if not isinstance(document, dict):
            raise IssuerAway(f"{url} does not answer with an object")
        return document


def mapping(roles: Mapping[str, str]) -> list[tuple[str, tuple[Role, ProjectId | None]]]:
    """Read the setting that maps claim values to roles. Raises `SettingsFault`."""
    found = []
    for value, text in roles.items():
        role, _, project = text.partition("@")
        if role not in list(Role):
            known = ", ".join(Role)
            raise SettingsFault(f"FEDBUS_API__OIDC__ROLES: {text!r} begins with none of {known}")
        found.append((value, (Role(role), project or None)))
    return found


def roles_of(claim: object, known: Mapping[str, tuple[Role, ProjectId | None]]) -> Roles:
    """Give the roles that a claim's values stand for; those that the setting does not name give none."""
    values: Sequence[object] = claim if isinstance(claim, list) else [claim]
    found: dict[ProjectId | None, frozenset[Role]] = {}
    for value in values[:ROLES_MAX]:
        if isinstance(value, str) and value in known:
            role, project = known[value]
            found[project] = found.get(project, frozenset()) | {role}
    return found


def _unauthorized(detail: str) -> Problem:
    return Problem(RefusalCode.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})
