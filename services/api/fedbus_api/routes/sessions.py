"""Sessions: start, list, show, and give orders."""

import asyncio
import secrets
from typing import Annotated

from fastapi import APIRouter, Body, Path, Response
from fedbus_schemas.codec import digest as sha256
from fedbus_schemas.ids import ProjectId, SessionId, Sha256
from fedbus_schemas.models import ModelRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import (
    ArchiveSession,
    ExtendSession,
    PauseSession,
    ResumeSession,
    SessionSettings,
    StartSession,
    StopSession,
)
from fedbus_schemas.trail_views import ComparisonView
from fedbus_schemas.views import (
    CountView,
    ExtendRequest,
    NewSession,
    Page,
    RunView,
    SessionView,
    StopRequest,
)
from pydantic import ValidationError

from fedbus_api.comparing import compare
from fedbus_api.lists import RUNS, SESSIONS, session_rows
from fedbus_api.problems import Problem
from fedbus_api.routes.files import made
from fedbus_api.routes.parameters import (
    AskedList,
    IdempotencyKey,
    Project,
    Session,
    known_session,
    page,
)
from fedbus_api.routes.rounds import of_session
from fedbus_api.views import run_views
from fedbus_api.wiring import Api, Parts

ID_BYTES = 5
_TAKEN = {"count"}
_NO_SETTINGS = {"model", "session", "package", "server_functions"}
"""Fields of a new session that are no settings of it."""

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

_EXAMPLE = {
    "model": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "name": "digits",
    "rounds": 10,
    "minimum": 3,
    "round_timeout_s": 120,
    "train": {"epochs": 1, "lr": 0.05},
    "model_prefix": "digits-",
    "clients": {"where": [{"key": "site", "op": "in", "value": ["eu", "us"]}]},
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

    Without a `model` it starts from the newest one: what the last round to complete made, in whatever
    session, or what was uploaded after that.

    With an id of your own (`session`) or an `Idempotency-Key` the request can be sent again safely.
    """
    if new.session in _TAKEN:
        raise Problem(RefusalCode.INVALID, f"body.session: {new.session} is a word of the routes")
    settings = await _settings(api, project, new)
    session = new.session or _make_up_id(idempotency_key)
    standing = await api.reader.session(project, session)
    if standing is not None and new.model is None:  # sent again: what was the newest then counts
        model = standing.initial
    else:
        model = await _model(api, project, new.model)
    if standing is not None and new.package is None:  # sent again: what was active then counts
        package = standing.package
    else:
        package = await api.packages.for_session(project, session, new.package)
    command = StartSession(session=session, settings=settings, model=model, package=package)
    document, is_new = await api.commands.start(project, command, idempotency_key)
    made(response, f"/v1/sessions/{session}?project={project}", is_new=is_new)
    return await api.live.session(document)


@router.get("", summary="List the sessions", openapi_extra=SESSIONS.parameters())
async def sessions(api: Parts, asked: AskedList, project: Project = "default") -> Page[SessionView]:
    """List the project's sessions, the newest first."""
    documents = await api.reader.sessions(project)
    means = await api.validations.means(project)
    cut = SESSIONS.page(session_rows(documents, means), asked, project)
    by_id = {one.session: one for one in documents}
    views = await asyncio.gather(
        *(api.live.completed(by_id[one.session], means) for one in cut.rows)
    )
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


@router.post("/{session}/archive", summary="Archive a session")
async def archive(
    api: Parts,
    session: Session,
    project: Project = "default",
    idempotency_key: IdempotencyKey = None,
) -> SessionView:
    """Close a session that has ended, for good: its stored updates are deleted, its log is kept.

    It can then be verified, but no longer replayed nor extended.
    """
    document = await api.commands.order(project, session, ArchiveSession(), idempotency_key)
    return await api.live.session(document)


@router.get("/{session}/compare/{other}", summary="Compare two sessions")
async def compare_with(
    api: Parts,
    session: Session,
    other: Annotated[SessionId, Path(description="The other session's id.")],
    project: Project = "default",
) -> ComparisonView:
    """Show the settings in which two sessions differ, and their metrics round by round."""
    documents = (
        await known_session(api, project, session),
        await known_session(api, project, other),
    )
    first, second = [await of_session(api, project, one.session) for one in documents]
    return compare(documents, (first, second))


@router.get("/{session}/runs", summary="List a session's runs", openapi_extra=RUNS.parameters())
async def runs(
    api: Parts, session: Session, asked: AskedList, project: Project = "default"
) -> Page[RunView]:
    """List what was asked of a session: its start, and every extension, the last first."""
    document = await known_session(api, project, session)
    return page(RUNS.page(run_views(document), asked, f"{project} {session}"))


@router.post("/{session}/extend", summary="Add rounds to a session")
async def extend(
    api: Parts,
    session: Session,
    request: Annotated[ExtendRequest, Body(examples=[{"rounds": 5}])],
    project: Project = "default",
    idempotency_key: IdempotencyKey = None,
) -> SessionView:
    """Add rounds, also to a session that has completed all it had."""
    command = ExtendSession(rounds=request.rounds, round_timeout_s=request.round_timeout_s)
    document = await api.commands.order(project, session, command, idempotency_key)
    return await api.live.session(document)


async def _settings(api: Api, project: ProjectId, new: NewSession) -> SessionSettings:
    """Give the settings, with the code that came along stored and named. Raises `Problem`."""
    asked = new.model_dump(exclude=_NO_SETTINGS, by_alias=True)
    if new.server_functions is not None and new.functions is not None:
        detail = "body.server_functions: name stored code in functions, or send some; not both"
        raise Problem(RefusalCode.INVALID, detail)
    functions = None
    if new.server_functions is not None:
        functions = await api.functions.keep(project, new.server_functions.encode())
    elif new.functions is not None:
        functions = await api.functions.known(project, new.functions)
    if functions is not None:
        asked["functions"] = functions
        if functions.makes_models and "aggregator" not in new.model_fields_set:
            asked |= {"aggregator": "server_functions", "aggregator_parameters": {}}
    try:
        return SessionSettings.model_validate(asked)
    except ValidationError as error:
        raise Problem(RefusalCode.INVALID, f"body: {error.errors()[0]['msg']}") from error


async def _model(api: Api, project: ProjectId, digest: Sha256 | None) -> ModelRef:
    """Find the model to start from. Raises `Problem`."""
    if digest is None:
        digest = await api.catalog.newest(project)
        if digest is None:
            raise Problem(RefusalCode.NOT_FOUND, "body.model: there is no model yet; upload one")
    model = await api.catalog.ref(project, digest)
    if model is None:
        raise Problem(RefusalCode.NOT_FOUND, f"model {digest}: upload it first")
    return model


def _make_up_id(key: str | None) -> str:
    """Make up an id; from the same Idempotency-Key the same one."""
    return f"s-{sha256(key.encode())[: 2 * ID_BYTES] if key else secrets.token_hex(ID_BYTES)}"


runs_router = APIRouter(prefix="/v1/runs", tags=["sessions"])


@runs_router.get("", summary="List all runs", openapi_extra=RUNS.parameters())
async def all_runs(api: Parts, asked: AskedList, project: Project = "default") -> Page[RunView]:
    """List the runs of all sessions, those that began last first."""
    return page(RUNS.page(await _all_runs(api, project), asked, project))


@runs_router.get("/count", summary="Count the runs", openapi_extra=RUNS.parameters())
async def count_runs(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the runs that meet the filters."""
    return CountView(count=RUNS.count(await _all_runs(api, project), asked))


async def _all_runs(api: Api, project: ProjectId) -> list[RunView]:
    return [run for one in await api.reader.sessions(project) for run in run_views(one)]
