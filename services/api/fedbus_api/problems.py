"""Every error as `application/problem+json` (RFC 9457) with a reason code; never a stack trace."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fedbus_core.rounds.log import LogBroken
from fedbus_runtime.errors import Away, BlobCorrupt, BlobMissing, BusRefused
from fedbus_schemas.codec import DETAIL_MAX, UnknownEvent
from fedbus_schemas.refusals import MEANING, Refusal, RefusalCode
from fedbus_schemas.views import ProblemView
from starlette.exceptions import HTTPException
from structlog.stdlib import get_logger

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1

STATUS: dict[RefusalCode, int] = {
    RefusalCode.NOT_FOUND: 404,
    RefusalCode.SESSION_UNKNOWN: 404,
    RefusalCode.ROUND_UNKNOWN: 404,
    RefusalCode.CLIENT_UNKNOWN: 404,
    RefusalCode.BLOB_MISSING: 404,
    RefusalCode.COMMAND_UNKNOWN: 404,
    RefusalCode.COMMAND_ENDED: 409,
    RefusalCode.ALREADY_EXISTS: 409,
    RefusalCode.SESSION_ENDED: 409,
    RefusalCode.NOT_POSSIBLE_NOW: 409,
    RefusalCode.FEDERATION_CONFIGURED: 409,
    RefusalCode.PACKAGE_NOT_CONFIGURED: 409,
    RefusalCode.PRUNED: 410,
    RefusalCode.TOO_LARGE: 413,
    RefusalCode.RETRY_LATER: 503,
    RefusalCode.UNAUTHORIZED: 401,
    RefusalCode.TOKEN_EXPIRED: 401,
    RefusalCode.TOKEN_REVOKED: 401,
    RefusalCode.FORBIDDEN: 403,
    RefusalCode.RATE_LIMITED: 429,
    RefusalCode.FAULT: 500,
}
"""The HTTP status of a code; all others are 422: what was sent cannot be taken."""

_log = get_logger()


class Problem(Exception):
    """A refused request. `status` overrides the code's own."""

    def __init__(
        self,
        code: RefusalCode,
        detail: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status or STATUS.get(code, 422)
        self.headers = headers


def refused(refusal: Refusal) -> Problem:
    """Make the problem of a refusal."""
    return Problem(refusal.code, refusal.detail or refusal.meaning)


def respond(problem: Problem) -> Response:
    """Write a problem."""
    view = ProblemView(
        type=f"urn:fl:problem:{problem.code}",
        title=MEANING[problem.code],
        status=problem.status,
        detail=problem.detail[:DETAIL_MAX],
        code=problem.code,
    )
    headers = dict(problem.headers or {})
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    return Response(view.to_bytes(), problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    app.add_exception_handler(Exception, _on_error)
    for kind in (
        Problem,
        HTTPException,
        RequestValidationError,
        Away,
        BusRefused,
        BlobMissing,
        BlobCorrupt,
        LogBroken,
        UnknownEvent,
    ):
        app.add_exception_handler(kind, _on_error)


async def _on_error(request: Request, error: Exception) -> Response:
    return respond(_problem(request, error))


def _problem(request: Request, error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return Problem(RefusalCode.INVALID, _describe(error))
        case HTTPException():
            return _of_framework(request, error)
        case Away():
            return Problem(RefusalCode.RETRY_LATER, str(error))
        case BlobMissing():
            return Problem(RefusalCode.BLOB_MISSING, "the object store does not have the blob")
        case _:
            _log.error("request.failed", path=request.url.path, error=repr(error))
            detail = "the api failed on this request; its log says why"
            return Problem(RefusalCode.FAULT, detail)


def _of_framework(request: Request, error: HTTPException) -> Problem:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return Problem(RefusalCode.NOT_FOUND, f"no such route: {request.url.path}")
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Problem(RefusalCode.TOO_LARGE, str(error.detail))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not possible on {request.url.path}"
        return Problem(RefusalCode.INVALID, detail, status=405, headers=error.headers)
    return Problem(
        RefusalCode.INVALID, str(error.detail), status=error.status_code, headers=error.headers
    )


def _describe(error: RequestValidationError) -> str:
    """Name the field and what is wrong with it, without repeating what was sent."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "request"
    return f"{place}: {first['msg']}"
