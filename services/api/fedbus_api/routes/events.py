"""The live event stream of one session, or of all sessions of a project."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from fedbus_schemas import subjects
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import EVENTS

from fedbus_api.documents import SessionDocument
from fedbus_api.event_stream import MEDIA_TYPE, EventStream, Feed
from fedbus_api.problems import Problem
from fedbus_api.routes.parameters import Project, Session, known_session
from fedbus_api.wiring import Api, Parts

router = APIRouter(tags=["events"])

After = Annotated[int | None, Query(ge=0, description="Begin after this sequence of the log.")]
LastEventId = Annotated[
    str | None, Header(description="As `after`; browsers send it when they reconnect.")
]
Follow = Annotated[
    bool, Query(description="false = end with the session (of one) or where the log ends (of all).")
]
_RESPONSES: dict[int | str, dict[str, object]] = {
    200: {
        "description": "Server-sent events: log events by their type (`LoggedEvent`) with the log's "
        "sequence as id, `update.stored` (`LiveUpdate`) and `validation.reported` "
        "(`LiveValidation`) without one.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/v1/sessions/{session}/events",
    summary="Follow a session",
    response_class=StreamingResponse,
    responses=_RESPONSES,
)
async def session_events(
    api: Parts,
    session: Session,
    project: Project = "default",
    after: After = None,
    follow: Follow = True,
    last_event_id: LastEventId = None,
) -> EventStream:
    """Send the session's log from the beginning (or from `after`), then live."""
    document = await known_session(api, project, session)
    start = _start(last_event_id, after)
    ended = _over_at(document, start)
    return _open(api, project, session, after=start or 0, follow=follow, ended=ended)


@router.get(
    "/v1/events",
    summary="Follow all sessions",
    response_class=StreamingResponse,
    responses=_RESPONSES,
)
async def all_events(
    api: Parts,
    project: Project = "default",
    after: After = None,
    follow: Follow = True,
    last_event_id: LastEventId = None,
) -> EventStream:
    """Send what happens in the project from now on (or from `after`)."""
    start = _start(last_event_id, after)
    if start is None:
        newest = await api.ports.streams.last(EVENTS, subjects.event(project, "*"))
        start = newest.sequence if newest is not None else 0
    return _open(api, project, None, after=start, follow=follow, ended=False)


def _open(
    api: Api,
    project: ProjectId,
    session: SessionId | None,
    *,
    after: int,
    follow: bool,
    ended: bool,
) -> EventStream:
    most = api.settings.event_streams_max
    if len(api.event_streams) >= most:
        raise Problem(RefusalCode.RETRY_LATER, f"{most} event streams are open (the limit)")
    feed = Feed(
        streams=api.ports.streams,
        wire=api.ports.wire,
        project=project,
        session=session,
        after=after,
        follow=follow,
        ended=ended,
        stopping=api.stopping,
    )
    return EventStream(feed, api.event_streams)


def _over_at(document: SessionDocument, start: int | None) -> bool:
    """Say whether the session is over for a reader that begins there: nothing of it is still to come."""
    ended = document.phase.value in {"completed", "stopped", "failed"}
    return ended and start is not None and start >= document.sequence


def _start(last_event_id: str | None, after: int | None) -> int | None:
    if last_event_id is None:
        return after
    if not last_event_id.isdecimal():
        raise Problem(RefusalCode.INVALID, "header.last-event-id: it is a sequence of the log")
    return int(last_event_id)
