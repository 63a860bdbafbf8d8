"""Dead letters: what nobody could handle."""

from typing import Annotated

from fastapi import APIRouter, Path
from fedbus_schemas.views import CountView, DeadLetterView, LetterOutcomeView, Page

from fedbus_api.access.identity import Caller
from fedbus_api.lists import DEAD_LETTERS
from fedbus_api.routes.parameters import AskedList, Project, page
from fedbus_api.wiring import Parts

Sequence = Annotated[int, Path(ge=1, description="The letter's number (`sequence`).")]

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])


@router.get("", summary="List the dead letters", openapi_extra=DEAD_LETTERS.parameters())
async def dead_letters(
    api: Parts, asked: AskedList, project: Project = "default"
) -> Page[DeadLetterView]:
    """List the messages that nobody could handle, the last first, with the reason of each."""
    return page(DEAD_LETTERS.page(await api.dead_letters.letters(project), asked, project))


@router.get("/count", summary="Count the dead letters", openapi_extra=DEAD_LETTERS.parameters())
async def count(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the letters that meet the filters."""
    return CountView(count=DEAD_LETTERS.count(await api.dead_letters.letters(project), asked))


@router.get("/{sequence}", summary="Show a dead letter")
async def show(api: Parts, sequence: Sequence, project: Project = "default") -> DeadLetterView:
    """Show a dead letter with its content."""
    return await api.dead_letters.one(project, sequence)


@router.post("/{sequence}/retry", summary="Deliver a dead letter again")
async def retry(
    api: Parts, caller: Caller, sequence: Sequence, project: Project = "default"
) -> LetterOutcomeView:
    """Have it delivered again, after its cause was mended. Asked twice, it is delivered once.

    Inputs and work items are put back into their queue. For a log entry its effects are performed again,
    an update is counted again.
    """
    return await api.dead_letters.retry(project, sequence, caller.name)


@router.delete("/{sequence}", summary="Drop a dead letter")
async def drop(
    api: Parts, caller: Caller, sequence: Sequence, project: Project = "default"
) -> LetterOutcomeView:
    """Delete it for good. Who dropped what is kept in the notes for 30 days."""
    return await api.dead_letters.drop(project, sequence, caller.name)
