"""For auditors: the stored bytes, exactly as they lie in the streams and in the object store."""

import base64
import re
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from fedbus_runtime.paging import in_pages
from fedbus_runtime.ports import Streams
from fedbus_schemas import subjects
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import EVENTS, HEADS, UPDATES, Stream
from fedbus_schemas.views import StoredEntry, TrustView

from fedbus_api.evidence import Claim
from fedbus_api.problems import Problem
from fedbus_api.routes.files import CONTENT, MEDIA_TYPE
from fedbus_api.routes.parameters import AttemptPath, Project, Round, Session, known_session
from fedbus_api.wiring import Api, Parts

LINES = "application/x-ndjson"
MESSAGES_AT_ONCE = 100
_KEY = re.compile(r"(models|sets|states|functions)/[0-9a-f]{64}|updates/c[a-z2-7]{16}/[0-9a-f]{64}")

router = APIRouter(tags=["audit"])

_LINES: dict[int | str, dict[str, object]] = {
    200: {
        "description": 'One object a line: {"sequence": 1, "time": "…", "data": "base64"}.',
        "content": {LINES: {"schema": {"$ref": "#/components/schemas/StoredEntry"}}},
    }
}
_BYTES: dict[int | str, dict[str, object]] = {
    200: {
        "description": "The blob's bytes; its SHA-256 is the last part of its key.",
        "content": CONTENT,
    }
}


@router.get(
    "/v1/sessions/{session}/audit/log",
    summary="Export the log",
    response_class=StreamingResponse,
    responses=_LINES,
)
async def log(api: Parts, session: Session, project: Project = "default") -> StreamingResponse:
    """Send every entry of the session's log with its stored bytes, oldest first."""
    await _known(api, project, session)
    return _lines(api.ports.streams, EVENTS, subjects.event(project, session))


@router.get(
    "/v1/sessions/{session}/audit/heads",
    summary="Export the signed heads",
    response_class=StreamingResponse,
    responses=_LINES,
)
async def heads(api: Parts, session: Session, project: Project = "default") -> StreamingResponse:
    """Send the controllers' signatures over the heads of the session's log, oldest first."""
    await _known(api, project, session)
    return _lines(api.ports.streams, HEADS, subjects.head(project, session, "*"))


@router.get(
    "/v1/sessions/{session}/audit/updates/{number}/{attempt}",
    summary="Export the stored updates of an attempt",
    response_class=StreamingResponse,
    responses=_LINES,
)
async def updates(
    api: Parts, session: Session, number: Round, attempt: AttemptPath, project: Project = "default"
) -> StreamingResponse:
    """Send the stored, signed manifests of an attempt (small updates ride inside), oldest first."""
    await _known(api, project, session)
    subject = subjects.updates_of(project, session, number, attempt)
    return _lines(api.ports.streams, UPDATES, subject)


@router.get(
    "/v1/sessions/{session}/audit/blobs/{key:path}",
    summary="Export a blob",
    response_class=StreamingResponse,
    responses=_BYTES,
)
async def blob(
    api: Parts, session: Session, key: str, project: Project = "default"
) -> StreamingResponse:
    """Send a blob that the session's log names, by its key under the project.

    One that a rule deleted is answered with 410 and `pruned`.
    """
    document = await known_session(api, project, session)
    within = key.removeprefix(f"{project}/") if not _KEY.fullmatch(key) else key
    if not _KEY.fullmatch(within):
        detail = "path.key: models/…, sets/…, states/…, functions/… or updates/<client>/…, each with a SHA-256"
        raise Problem(RefusalCode.INVALID, detail)
    claim = await api.evidence.claim(document, within)
    if claim is Claim.NONE:
        detail = f"{within}: the log of session {session} names no such blob"
        raise Problem(RefusalCode.BLOB_MISSING, detail)
    full = f"{project}/{within}"
    size = await api.ports.blobs.size(full) if claim is Claim.KEPT else None
    if size is None and claim is Claim.KEPT:
        raise Problem(RefusalCode.BLOB_MISSING, f"{within} in project {project}")
    if size is None:
        raise Problem(RefusalCode.PRUNED, f"{within}: deleted by rule, as the log says")
    headers = {"Content-Length": str(size)}
    return StreamingResponse(api.ports.blobs.stream(full), 200, headers, MEDIA_TYPE)


@router.get("/v1/trust", summary="Show whom to trust")
async def trust(api: Parts) -> TrustView:
    """Give the controllers' public keys. Take them from a second source too: this one could lie."""
    return api.trust


async def _known(api: Api, project: ProjectId, session: SessionId) -> None:
    """Raise `Problem` unless there is a log; what is in it is the auditor's to judge."""
    if await api.ports.streams.last(EVENTS, subjects.event(project, session)) is None:
        detail = f"session {session} in project {project}"
        raise Problem(RefusalCode.SESSION_UNKNOWN, detail)


def _lines(streams: Streams, stream: Stream, subject: str) -> StreamingResponse:
    return StreamingResponse(_stored(streams, stream, subject), media_type=LINES)


async def _stored(streams: Streams, stream: Stream, subject: str) -> AsyncIterator[bytes]:
    async for one in in_pages(streams, stream, subject, at_once=MESSAGES_AT_ONCE):
        data = base64.b64encode(one.data).decode()
        line = StoredEntry(sequence=one.sequence, time=one.time, data=data)
        yield line.to_bytes() + b"\n"
