"""The OpenAPI document: FastAPI's, with problems where it would put its own errors."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fedbus_schemas.identities import Role
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.views import (
    LiveUpdate,
    LiveValidation,
    LoggedEvent,
    ProblemView,
    StoredEntry,
)
from pydantic.json_schema import models_json_schema

from fedbus_api.access.rights import NEEDS, holders, missing
from fedbus_api.problems import MEDIA_TYPE, STATUS

REFERENCE = "#/components/schemas/{model}"
STREAMED = (ProblemView, StoredEntry, LoggedEvent, LiveUpdate, LiveValidation)
"""What no route declares as its answer: problems, and the items of streams."""
_EXAMPLE = {
    "type": "urn:fl:problem:session_unknown",
    "title": "No session with this id; check the id and the project.",
    "status": 404,
    "detail": "session mnist-1 in project default",
    "code": "session_unknown",
}


def install(app: FastAPI) -> None:
    """Let the app give this document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def describe(app: FastAPI) -> dict[str, Any]:
    """Make the document."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, extra = models_json_schema(
        [(one, "serialization") for one in STREAMED], ref_template=REFERENCE
    )
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas |= extra["$defs"]
    document["components"]["responses"] = {"Problem": _problem()}
    for name in missing(document["paths"]):
        raise AssertionError(f"{name}: say in fedbus_api/access/rights.py (NEEDS) what it needs")
    for name, need in NEEDS.items():
        method, path = name.split(" ")
        roles = holders(need.right) if need.right is not None else list(Role)
        document["paths"][path][method.lower()]["x-roles"] = [str(role) for role in roles]
    for operation in _operations(document):
        operation["responses"].pop("422", None)
        operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    return document


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _problem() -> dict[str, Any]:
    known = ", ".join(f"{status}" for status in sorted({*STATUS.values(), 401, 422}))
    return {
        "description": f"Refused ({known}): `code` says why, `detail` what exactly. "
        f"The codes: {', '.join(RefusalCode)}.",
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": REFERENCE.format(model="ProblemView")},
                "example": _EXAMPLE,
            }
        },
    }
