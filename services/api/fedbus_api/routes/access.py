"""Tokens, acts, and who the caller is."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Response
from fedbus_schemas.access_views import ActView, IdentityView, MadeTokenView, NewToken, TokenView
from fedbus_schemas.identities import TokenId
from fedbus_schemas.views import CountView, Page

from fedbus_api.access.identity import Caller
from fedbus_api.lists import ACTS, TOKENS
from fedbus_api.routes.files import made
from fedbus_api.routes.parameters import AskedList, Project, page
from fedbus_api.wiring import Parts

Token = Annotated[TokenId, Path(description="The token's id.")]

router = APIRouter(prefix="/v1", tags=["access"])

_EXAMPLE = {"name": "ci", "role": "operator", "lifetime_s": 2592000}


@router.get("/whoami", summary="Show who you are")
async def whoami(caller: Caller) -> IdentityView:
    """Show whom the api takes the caller for, and its roles."""
    return caller.view()


@router.post("/tokens", status_code=201, summary="Make a token")
async def make(
    api: Parts,
    caller: Caller,
    response: Response,
    new: Annotated[NewToken, Body(examples=[_EXAMPLE])],
    project: Project = "default",
) -> MadeTokenView:
    """Make a bearer token for one role in the project. Its `bearer` is shown this once."""
    view = await api.access.tokens.make(project, new, caller)
    made(response, f"/v1/tokens/{view.token}?project={project}", is_new=True)
    response.headers["Cache-Control"] = "no-store"
    return view


@router.get("/tokens", summary="List the tokens", openapi_extra=TOKENS.parameters())
async def tokens(
    api: Parts, caller: Caller, asked: AskedList, project: Project = "default"
) -> Page[TokenView]:
    """List the project's tokens without their secrets, the newest first.

    Who administers every project sees those that hold everywhere as well.
    """
    return page(TOKENS.page(await api.access.tokens.tokens(project, caller), asked, project))


@router.get("/tokens/count", summary="Count the tokens", openapi_extra=TOKENS.parameters())
async def count_tokens(
    api: Parts, caller: Caller, asked: AskedList, project: Project = "default"
) -> CountView:
    """Count the tokens that meet the filters."""
    return CountView(count=TOKENS.count(await api.access.tokens.tokens(project, caller), asked))


@router.delete("/tokens/{token}", summary="Revoke a token")
async def revoke(
    api: Parts, caller: Caller, token: Token, project: Project = "default"
) -> TokenView:
    """End a token now: the next request with it is refused by every api, a running answer within seconds."""
    return await api.access.tokens.revoke(project, token, caller)


@router.get("/acts", summary="List the acts", openapi_extra=ACTS.parameters())
async def acts(api: Parts, asked: AskedList, project: Project = "default") -> Page[ActView]:
    """List the requests that changed something or were to: who, what, from where; the last first."""
    return page(ACTS.page(await api.access.acts.acts(project), asked, project))


@router.get("/acts/count", summary="Count the acts", openapi_extra=ACTS.parameters())
async def count_acts(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the acts that meet the filters."""
    return CountView(count=ACTS.count(await api.access.acts.acts(project), asked))
