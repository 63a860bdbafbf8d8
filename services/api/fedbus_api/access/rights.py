"""The one table of what each route needs, and of what each role may do.

A route that is not in the table is answered as if it did not exist, and a test fails: nothing is open by
mistake. Health and the OpenAPI document lie outside `/v1` and need nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fedbus_schemas.identities import Role

GUARDED = "/v1"


class Right(StrEnum):
    """What a route needs."""

    READ = "read"
    """See how things stand: sessions, rounds, clients, models by name, events."""
    FETCH = "fetch"
    """Get the bytes of models and packages."""
    OPERATE = "operate"
    """Start sessions, give them orders, upload models and packages, handle dead letters."""
    AUDIT = "audit"
    """Export the stored log, manifests and blobs; see who did what."""
    ADMINISTER = "administer"
    """Decide who may do what: tokens, clients; begin the federation anew."""


ROLES: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.READ}),
    Role.AUDITOR: frozenset({Right.READ, Right.FETCH, Right.AUDIT}),
    Role.OPERATOR: frozenset({Right.READ, Right.FETCH, Right.OPERATE}),
    Role.ADMIN: frozenset(Right),
}


@dataclass(frozen=True, slots=True)
class Need:
    """What a route needs: a right in the project of its query, or in any project at all.

    `upload`: the route takes a body of any length and limits it itself; others take `body_bytes_max`.
    `public`: nobody is asked who they are; the route itself looks at what they bring.
    """

    right: Right | None
    anywhere: bool = False
    upload: bool = False
    public: bool = False


_READ = Need(Right.READ)
_FETCH = Need(Right.FETCH)
_OPERATE = Need(Right.OPERATE)
_UPLOAD = Need(Right.OPERATE, upload=True)
_AUDIT = Need(Right.AUDIT)
_ADMINISTER = Need(Right.ADMINISTER)
_KNOWN = Need(Right.READ, anywhere=True)
_ANYBODY = Need(None, anywhere=True)
_PUBLIC = Need(None, anywhere=True, public=True)

NEEDS: Mapping[str, Need] = {
    "GET /v1/acts": _AUDIT,
    "GET /v1/acts/count": _AUDIT,
    "GET /v1/aggregators": _KNOWN,
    "GET /v1/attributes": _READ,
    "GET /v1/attributes/count": _READ,
    "GET /v1/attributes/history": _READ,
    "GET /v1/backlogs": _READ,
    "GET /v1/clients": _READ,
    "GET /v1/clients/count": _READ,
    "GET /v1/clients/{client}": _READ,
    "PATCH /v1/clients/{client}": _ADMINISTER,
    "DELETE /v1/clients/{client}": _ADMINISTER,
    "GET /v1/combiners": _READ,
    "GET /v1/combiners/count": _READ,
    "GET /v1/commands": _READ,
    "POST /v1/commands": _OPERATE,
    "GET /v1/commands/{command}": _READ,
    "GET /v1/commands/{command}/results": _READ,
    "GET /v1/commands/{command}/results/{client}": _READ,
    "POST /v1/commands/{command}/step": _OPERATE,
    "POST /v1/commands/{command}/stop": _OPERATE,
    "GET /v1/controllers": _READ,
    "GET /v1/controllers/count": _READ,
    "GET /v1/dead-letters": _READ,
    "GET /v1/dead-letters/count": _READ,
    "GET /v1/dead-letters/{sequence}": _OPERATE,
    "DELETE /v1/dead-letters/{sequence}": _OPERATE,
    "POST /v1/dead-letters/{sequence}/retry": _OPERATE,
    "GET /v1/devices": _READ,
    "POST /v1/devices/revoke": _ADMINISTER,
    "DELETE /v1/devices/{device}": _ADMINISTER,
    "POST /v1/enrol": _PUBLIC,
    "POST /v1/enrol/renew": _PUBLIC,
    "GET /v1/events": _READ,
    "GET /v1/federation": _READ,
    "POST /v1/federation/initialise": _ADMINISTER,
    "GET /v1/inference-results": _READ,
    "GET /v1/inference-results/count": _READ,
    "GET /v1/join-tokens": _ADMINISTER,
    "POST /v1/join-tokens": _ADMINISTER,
    "DELETE /v1/join-tokens/{join}": _ADMINISTER,
    "GET /v1/metrics": _READ,
    "GET /v1/metrics/count": _READ,
    "GET /v1/models": _READ,
    "POST /v1/models": _UPLOAD,
    "GET /v1/models/count": _READ,
    "GET /v1/models/leaves": _READ,
    "GET /v1/models/{digest}": _READ,
    "GET /v1/models/{digest}/descendants": _READ,
    "GET /v1/models/{digest}/download": _FETCH,
    "GET /v1/models/{digest}/lineage": _READ,
    "GET /v1/models/{digest}/parameters": _FETCH,
    "GET /v1/models/{digest}/parent": _READ,
    "GET /v1/packages": _READ,
    "POST /v1/packages": _UPLOAD,
    "GET /v1/packages/active": _READ,
    "PUT /v1/packages/active": _OPERATE,
    "DELETE /v1/packages/active": _OPERATE,
    "POST /v1/packages/{digest}/signatures": _OPERATE,
    "GET /v1/packages/count": _READ,
    "GET /v1/packages/{digest}": _READ,
    "GET /v1/packages/{digest}/checksum": _READ,
    "GET /v1/packages/{digest}/download": _FETCH,
    "GET /v1/refusals": _READ,
    "GET /v1/refusals/count": _READ,
    "GET /v1/rounds": _READ,
    "GET /v1/rounds/count": _READ,
    "GET /v1/runs": _READ,
    "GET /v1/runs/count": _READ,
    "GET /v1/selection": _READ,
    "POST /v1/server-functions": _UPLOAD,
    "GET /v1/server-functions/{digest}": _FETCH,
    "GET /v1/sessions": _READ,
    "POST /v1/sessions": _OPERATE,
    "GET /v1/sessions/count": _READ,
    "GET /v1/sessions/{session}": _READ,
    "POST /v1/sessions/{session}/archive": _OPERATE,
    "GET /v1/sessions/{session}/audit/blobs/{key}": _AUDIT,
    "GET /v1/sessions/{session}/audit/heads": _AUDIT,
    "GET /v1/sessions/{session}/audit/log": _AUDIT,
    "GET /v1/sessions/{session}/audit/updates/{number}/{attempt}": _AUDIT,
    "GET /v1/sessions/{session}/compare/{other}": _READ,
    "GET /v1/sessions/{session}/events": _READ,
    "POST /v1/sessions/{session}/extend": _OPERATE,
    "POST /v1/sessions/{session}/pause": _OPERATE,
    "POST /v1/sessions/{session}/resume": _OPERATE,
    "GET /v1/sessions/{session}/rounds": _READ,
    "GET /v1/sessions/{session}/rounds/count": _READ,
    "GET /v1/sessions/{session}/rounds/{number}": _READ,
    "GET /v1/sessions/{session}/rounds/{number}/explain": _READ,
    "GET /v1/sessions/{session}/rounds/{number}/timeline": _READ,
    "GET /v1/sessions/{session}/runs": _READ,
    "POST /v1/sessions/{session}/stop": _OPERATE,
    "GET /v1/stages": _READ,
    "GET /v1/stages/{stage}": _READ,
    "PUT /v1/stages/{stage}": _OPERATE,
    "POST /v1/stages/{stage}/rollback": _OPERATE,
    "GET /v1/status": _READ,
    "GET /v1/status-events": _READ,
    "GET /v1/status-events/count": _READ,
    "GET /v1/telemetry": _READ,
    "GET /v1/telemetry/count": _READ,
    "GET /v1/tokens": _ADMINISTER,
    "POST /v1/tokens": _ADMINISTER,
    "GET /v1/tokens/count": _ADMINISTER,
    "DELETE /v1/tokens/{token}": _ADMINISTER,
    "GET /v1/trust": _KNOWN,
    "GET /v1/validations": _READ,
    "GET /v1/validations/count": _READ,
    "GET /v1/whoami": _ANYBODY,
}
"""By method and path, as the OpenAPI document writes it."""

_LONG = frozenset({"key"})
"""Parameters that may hold slashes."""


@dataclass(frozen=True, slots=True)
class Door:
    """A path and what each of its methods needs."""

    pattern: re.Pattern[str]
    needs: Mapping[str, Need]


def doors() -> list[Door]:
    """Give the table by path, those without parameters first: `/count` goes before `/{session}`."""
    by_path: dict[str, dict[str, Need]] = {}
    for name, need in NEEDS.items():
        method, path = name.split(" ")
        by_path.setdefault(path, {})[method] = need
    ordered = sorted(by_path, key=lambda path: (path.count("{"), path))
    return [Door(_pattern(path), by_path[path]) for path in ordered]


def holders(right: Right) -> list[Role]:
    """Name the roles that have a right."""
    return [role for role in Role if right in ROLES[role]]


def missing(document: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Name the operations of an OpenAPI document's paths that the table lacks, or has too many."""
    there = {
        f"{method.upper()} {path}"
        for path, operations in document.items()
        for method in operations
        if path.startswith(GUARDED)
    }
    return iter(sorted(there ^ NEEDS.keys()))


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", path)
    text = "".join(
        re.escape(part) if place % 2 == 0 else (".+" if part in _LONG else "[^/]+")
        for place, part in enumerate(parts)
    )
    return re.compile(text)
