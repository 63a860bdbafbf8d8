"""Sessions: start, list, show, and give orders."""

import asyncio
import secrets
from typing import Annotated

from fastapi import APIRouter, Body, Response
from fedbus_schemas.codec import digest
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import (
    ExtendSession,
    PauseSession,
    ResumeSession,
    SessionSettings,
    StartSession,
    StopSession,
)
from fedbus_schemas.views import (
    CountView,
    ExtendRequest,
    NewSession,
    Page,
    SessionView,
    StopRequest,
)

from fedbus_api.lists import SESSIONS, session_rows
from fedbus_api.problems import Problem
from fedbus_api.routes.parameters import (
    AskedList,
    IdempotencyKey,
    Project,
    Session,
    known_session,
)
from fedbus_api.wiring import Parts

ID_BYTES = 5

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

_EXAMPLE = {
    "model": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "name": "digits",
    "rounds": 10,
    "minimum": 3,
    "round_timeout_s": 120,
    "train": {"epochs": 1, "lr": 0.05},
}


@router.post(
    "",
    status_code=201,
    summary="Start a session",
    responses={200: {"model": SessionView, "description": "It was started before, just so."}},
)
async def start(
    api: Parts,
    response: Response,
    new: Annotated[NewSession, Body(examples=[_EXAMPLE])],
    project: Project = "default",
    idempotency_key: IdempotencyKey = None,
) -> SessionView:
    """Start a session from a model, and answer once a controller has decided it.

    With an id of your own (`session`) or an `Idempotency-Key` the request can be sent again safely.
    """
    model = await api.catalog.ref(project, new.model)
    if model is None:
        raise Problem(RefusalCode.NOT_FOUND, f"model {new.model}: upload it first")
    settings = SessionSettings.model_validate(
        new.model_dump(exclude={"model", "session", "package"}, by_alias=True)
    )
    session = new.session or _make_up_id(idempotency_key)
    standing = await api.reader.session(project, session)
    if standing is not None and new.package is None:  # sent again: what was active then counts
        package = standing.package
    else:
        package = await api.packages.for_session(project, session, new.package)
    command = StartSession(session=session, settings=settings, model=model, package=package)
    document, is_new = await api.commands.start(project, command, idempotency_key)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/sessions/{session}?project={project}"
    return await api.live.session(document)


@router.get("", summary="List the sessions", openapi_extra=SESSIONS.parameters())
async def sessions(api: Parts, asked: AskedList, project: Project = "default") -> Page[SessionView]:
    """List the project's sessions, the newest first."""
    documents = await api.reader.sessions(project)
    rows = session_rows(documents, await api.validations.means(project))
    cut = SESSIONS.page(rows, asked, project)
    by_id = {one.session: one for one in documents}
    views = await asyncio.gather(*(api.live.session(by_id[one.session]) for one in cut.rows))
    return Page(items=tuple(views), next=cut.next, count=cut.count)


@router.get("/count", summary="Count the sessions", openapi_extra=SESSIONS.parameters())
async def count(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the sessions that meet the filters."""
    documents = await api.reader.sessions(project)
    rows = session_rows(documents, await api.validations.means(project))
    return CountView(count=SESSIONS.count(rows, asked))


@router.get("/{session}", summary="Show a session")
async def show(api: Parts, session: Session, project: Project = "default") -> SessionView:
    """Show a session as of the last entry of its log, with the live count of the open round."""
    return await api.live.session(await known_session(api, project, session))


@router.post("/{session}/pause", summary="Pause a session")
async def pause(
    api: Parts,
    session: Session,
    project: Project = "default",
    idempotency_key: IdempotencyKey = None,
) -> SessionView:
    """Finish the open round, then open no further one."""
    document = await api.commands.order(project, session, PauseSession(), idempotency_key)
    return await api.live.session(document)


@router.post("/{session}/resume", summary="Resume a session")
async def resume(
    api: Parts,
    session: Session,
    project: Project = "default",
    idempotency_key: IdempotencyKey = None,
) -> SessionView:
    """Go on after a pause."""
    document = await api.commands.order(project, session, ResumeSession(), idempotency_key)
    return await api.live.session(document)


@router.post("/{session}/stop", summary="Stop a session")
async def stop(
    api: Parts,
    session: Session,
    request: StopRequest | None = None,
    project: Project = "default",
    idempotency_key: IdempotencyKey = None,
) -> SessionView:
    """End the session now; the open round is given up."""
    command = StopSession(reason=(request or StopRequest()).reason)
    document = await api.commands.order(project, session, command, idempotency_key)
    return await api.live.session(document)


@router.post("/{session}/extend", summary="Add rounds to a session")
async def extend(
    api: Parts,
    session: Session,
    request: Annotated[ExtendRequest, Body(examples=[{"rounds": 5}])],
    project: Project = "default",
    idempotency_key: IdempotencyKey = None,
) -> SessionView:
    """Add rounds, also to a session that has completed all it had."""
    command = ExtendSession(rounds=request.rounds)
    document = await api.commands.order(project, session, command, idempotency_key)
    return await api.live.session(document)


def _make_up_id(key: str | None) -> str:
    """Make up an id; from the same Idempotency-Key the same one."""
    return f"s-{digest(key.encode())[: 2 * ID_BYTES] if key else secrets.token_hex(ID_BYTES)}"
