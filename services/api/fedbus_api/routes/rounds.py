"""Rounds of a session, their attempts and where their time went."""

from typing import Annotated

from fastapi import APIRouter, Query
from fedbus_schemas.ids import AttemptNumber
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.views import Page, RoundAttempts, RoundView, TimelineView

from fedbus_api.problems import Problem
from fedbus_api.projection import RoundDocument, SessionDocument
from fedbus_api.routes.parameters import (
    PAGE_DEFAULT,
    Cursor,
    Limit,
    Project,
    Round,
    Session,
    known_session,
    page,
)
from fedbus_api.wiring import Api, Parts

router = APIRouter(prefix="/v1/sessions/{session}/rounds", tags=["rounds"])


@router.get("", summary="List the rounds")
async def rounds(
    api: Parts,
    session: Session,
    project: Project = "default",
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> Page[RoundView]:
    """List a session's rounds, the newest first, each with its last attempt."""
    document = await known_session(api, project, session)
    last = document.latest.number if document.latest else 0
    part = page(range(last, 0, -1), str, cursor, limit)
    found = await api.reader.rounds(document, part.items)
    views = [(await api.live.round(document, one)).attempts[-1] for one in found]
    return Page(items=tuple(views), next=part.next)


@router.get("/{number}", summary="Show a round")
async def show(
    api: Parts, session: Session, number: Round, project: Project = "default"
) -> RoundAttempts:
    """Show a round with all its attempts."""
    document = await known_session(api, project, session)
    return await api.live.round(document, await _known_round(api, document, number))


@router.get("/{number}/timeline", summary="Show where a round's time went")
async def timeline(
    api: Parts,
    session: Session,
    number: Round,
    project: Project = "default",
    attempt: Annotated[
        AttemptNumber | None, Query(description="The attempt; none = the last one.")
    ] = None,
) -> TimelineView:
    """Lay out a round's spans in seconds after its opening: clients, closing, folding, completion."""
    document = await known_session(api, project, session)
    found = await _known_round(api, document, number)
    wanted = attempt or found.last.attempt
    for one in found.attempts:
        if one.attempt == wanted:
            return await api.live.timeline(document, number, one)
    raise Problem(RefusalCode.ROUND_UNKNOWN, f"attempt {wanted} of round {number} is not kept")


async def _known_round(api: Api, document: SessionDocument, number: int) -> RoundDocument:
    found = await api.reader.rounds(document, [number])
    if not found:
        detail = f"session {document.session} has not opened round {number}"
        raise Problem(RefusalCode.ROUND_UNKNOWN, detail)
    return found[0]
