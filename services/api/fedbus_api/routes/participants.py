"""Clients, combiners, refusals."""

from fastapi import APIRouter
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.views import ClientView, CombinerView, Page, RefusalView

from fedbus_api.problems import Problem
from fedbus_api.routes.parameters import (
    PAGE_DEFAULT,
    Client,
    Cursor,
    Limit,
    OfSession,
    Project,
    page,
)
from fedbus_api.wiring import Parts

router = APIRouter(prefix="/v1", tags=["participants"])


@router.get("/clients", summary="List the clients")
async def clients(
    api: Parts, project: Project = "default", limit: Limit = PAGE_DEFAULT, cursor: Cursor = None
) -> Page[ClientView]:
    """List the clients, those that joined last first."""
    return page(await api.people.clients(project), lambda one: one.client, cursor, limit)


@router.get("/clients/{client}", summary="Show a client")
async def client(api: Parts, client: Client, project: Project = "default") -> ClientView:
    """Show a client: its name, its keys, and whether it is online."""
    found = await api.people.client(project, client)
    if found is None:
        raise Problem(RefusalCode.CLIENT_UNKNOWN, f"client {client} in project {project}")
    return found


@router.get("/combiners", summary="List the combiners")
async def combiners(
    api: Parts, project: Project = "default", limit: Limit = PAGE_DEFAULT, cursor: Cursor = None
) -> Page[CombinerView]:
    """List the combiners that worked on the project's rounds, the last one first."""
    return page(await api.people.combiners(project), lambda one: one.name, cursor, limit)


@router.get("/refusals", summary="List what was refused")
async def refusals(
    api: Parts,
    project: Project = "default",
    session: OfSession = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[RefusalView]:
    """List the clients' requests that were refused, the last first.

    An update that was stored and then not counted stands in its round instead.
    """
    return Page(items=tuple(await api.people.refusals(project, session, limit)))
