"""What routes take: project, ids, pages."""

from typing import Annotated, TypeVar

from fastapi import Depends, Header, Path, Query, Request
from fastapi.security import HTTPBearer
from fedbus_schemas.ids import AttemptNumber, ClientId, ProjectId, RoundNumber, SessionId, Sha256
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.views import Page

from fedbus_api.documents import SessionDocument
from fedbus_api.listing.pages import CURSOR_CHARS_MAX, Asked, Cut
from fedbus_api.problems import Problem
from fedbus_api.wiring import Api

PAGE_MAX = 500
PAGE_DEFAULT = 50
KEY_CHARS_MAX = 128

Project = Annotated[ProjectId, Query(description="The project.")]
Session = Annotated[SessionId, Path(description="The session's id.", examples=["mnist-1"])]
Digest = Annotated[Sha256, Path(description="Its SHA-256, in hexadecimal.")]
Client = Annotated[ClientId, Path(description="The client's pseudonym.")]
Round = Annotated[RoundNumber, Path(description="The round's number, from 1.")]
AttemptPath = Annotated[AttemptNumber, Path(description="The attempt's number, from 1.")]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many at most.")]
Cursor = Annotated[
    str | None,
    Query(max_length=CURSOR_CHARS_MAX, description="`next` of the page before; none = the first."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=KEY_CHARS_MAX,
        description="A text of your own: the same request sent again with it changes nothing.",
    ),
]


T = TypeVar("T")
bearer = HTTPBearer(auto_error=False, description="A token of the api, or of its OIDC issuer.")
"""For the OpenAPI document: who calls was found out by the guard, before any route."""


async def known_session(api: Api, project: ProjectId, session: SessionId) -> SessionDocument:
    """Give a session's document. Raises `Problem` when there is none."""
    document = await api.reader.session(project, session)
    if document is None:
        detail = f"session {session} in project {project}"
        raise Problem(RefusalCode.SESSION_UNKNOWN, detail)
    return document


def asked(request: Request, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None) -> Asked:
    """Give what a list was asked."""
    return Asked(tuple(request.query_params.multi_items()), limit, cursor)


AskedList = Annotated[Asked, Depends(asked)]


def page(cut: Cut[T]) -> Page[T]:
    """Tell a page whose rows are its items."""
    return Page(items=tuple(cut.rows), next=cut.next, count=cut.count)
