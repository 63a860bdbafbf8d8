"""Rounds of a session, their attempts and where their time went."""

from typing import Annotated

from fastapi import APIRouter, Query
from fedbus_schemas.explain_views import ExplanationView, Standing
from fedbus_schemas.ids import AttemptNumber, ProjectId, SessionId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.selection import IDS_MAX
from fedbus_schemas.views import CountView, Page, RoundAttempts, RoundView, TimelineView

from fedbus_api.documents import Attempt, RoundDocument, SessionDocument
from fedbus_api.lists import ROUNDS
from fedbus_api.problems import Problem
from fedbus_api.reading import ROUNDS_MAX
from fedbus_api.routes.parameters import AskedList, Project, Round, Session, known_session, page
from fedbus_api.wiring import Api, Parts

WhichAttempt = Annotated[
    AttemptNumber | None, Query(description="The attempt; none = the last one.")
]

router = APIRouter(tags=["rounds"])
OF_SESSION = "/v1/sessions/{session}/rounds"


@router.get("/v1/rounds", summary="List all rounds", openapi_extra=ROUNDS.parameters())
async def all_rounds(api: Parts, asked: AskedList, project: Project = "default") -> Page[RoundView]:
    """List the rounds of all sessions, those that opened last first, each with its last attempt."""
    return page(ROUNDS.page(await _all(api, project), asked, project))


@router.get("/v1/rounds/count", summary="Count all rounds", openapi_extra=ROUNDS.parameters())
async def count_all(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the rounds of all sessions that meet the filters."""
    return CountView(count=ROUNDS.count(await _all(api, project), asked))


@router.get(OF_SESSION, summary="List the rounds", openapi_extra=ROUNDS.parameters())
async def rounds(
    api: Parts, session: Session, asked: AskedList, project: Project = "default"
) -> Page[RoundView]:
    """List a session's rounds, the newest first, each with its last attempt."""
    rows = await of_session(api, project, session)
    return page(ROUNDS.page(rows, asked, f"{project} {session}"))


@router.get(f"{OF_SESSION}/count", summary="Count the rounds", openapi_extra=ROUNDS.parameters())
async def count(
    api: Parts, session: Session, asked: AskedList, project: Project = "default"
) -> CountView:
    """Count a session's rounds that meet the filters."""
    return CountView(count=ROUNDS.count(await of_session(api, project, session), asked))


@router.get(OF_SESSION + "/{number}", summary="Show a round")
async def show(
    api: Parts, session: Session, number: Round, project: Project = "default"
) -> RoundAttempts:
    """Show a round with all its attempts."""
    document = await known_session(api, project, session)
    return await api.live.round(document, await _known_round(api, document, number))


@router.get(OF_SESSION + "/{number}/timeline", summary="Show where a round's time went")
async def timeline(
    api: Parts,
    session: Session,
    number: Round,
    project: Project = "default",
    attempt: WhichAttempt = None,
) -> TimelineView:
    """Lay out a round's spans in seconds after its opening: clients, closing, folding, completion."""
    document = await known_session(api, project, session)
    one = await _attempt(api, document, number, attempt)
    return await api.live.timeline(document, number, one)


@router.get(OF_SESSION + "/{number}/explain", summary="Explain a round")
async def explain(
    api: Parts,
    session: Session,
    number: Round,
    project: Project = "default",
    attempt: WhichAttempt = None,
    client: Annotated[
        list[str] | None,
        Query(
            max_length=IDS_MAX, description="Only of this client, by pseudonym or name; repeatable."
        ),
    ] = None,
    standing: Annotated[
        list[Standing] | None, Query(max_length=32, description="Only of such clients; repeatable.")
    ] = None,
) -> ExplanationView:
    """Say of each client why it was asked or not, and why its update counted or not; and what took how long.

    Who was not asked is derived: the draw is a function of the session's seed, so a client that it would
    have drawn was not online. Attributes are taken as they stood when the round opened.
    """
    document = await known_session(api, project, session)
    one = await _attempt(api, document, number, attempt)
    return await api.explaining.explain(
        document, number, one, clients=client or (), standings=standing or ()
    )


async def _attempt(
    api: Api, document: SessionDocument, number: int, attempt: int | None
) -> Attempt:
    found = await _known_round(api, document, number)
    wanted = attempt or found.last.attempt
    for one in found.attempts:
        if one.attempt == wanted:
            return one
    raise Problem(RefusalCode.ROUND_UNKNOWN, f"attempt {wanted} of round {number} is not kept")


async def _known_round(api: Api, document: SessionDocument, number: int) -> RoundDocument:
    found = await api.reader.rounds(document, [number])
    if not found:
        detail = f"session {document.session} has not opened round {number}"
        raise Problem(RefusalCode.ROUND_UNKNOWN, detail)
    return found[0]


async def of_session(api: Api, project: ProjectId, session: SessionId) -> list[RoundView]:
    """Show a session's rounds. Raises `Problem` when there is no such session."""
    document = await known_session(api, project, session)
    last = document.latest.number if document.latest else 0
    found = await api.reader.rounds(document, range(last, max(0, last - ROUNDS_MAX), -1))
    return api.rounds.of(session, found, await api.validations.means(project))


async def _all(api: Api, project: ProjectId) -> list[RoundView]:
    means = await api.validations.means(project)
    rows: list[RoundView] = []
    for document, found in await api.reader.all_rounds(project):
        rows += api.rounds.of(document.session, found, means)
    return rows
