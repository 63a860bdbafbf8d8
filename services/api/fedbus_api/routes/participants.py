"""Clients, combiners, refusals, validations."""

from typing import Annotated

from fastapi import APIRouter, Body
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.views import (
    ClientChange,
    ClientView,
    CombinerView,
    ControllerView,
    CountView,
    Page,
    RefusalView,
    ValidationReportView,
)

from fedbus_api.lists import CLIENTS, COMBINERS, CONTROLLERS, REFUSALS, VALIDATIONS
from fedbus_api.people import client_view
from fedbus_api.problems import Problem
from fedbus_api.routes.parameters import AskedList, Client, Project, page
from fedbus_api.wiring import Parts

router = APIRouter(prefix="/v1", tags=["participants"])


@router.get("/clients", summary="List the clients", openapi_extra=CLIENTS.parameters())
async def clients(api: Parts, asked: AskedList, project: Project = "default") -> Page[ClientView]:
    """List the clients, those that joined last first."""
    cut = CLIENTS.page(await api.people.clients(project), asked, project)
    items = tuple(client_view(row) for row in cut.rows)
    return Page(items=items, next=cut.next, count=cut.count)


@router.get("/clients/count", summary="Count the clients", openapi_extra=CLIENTS.parameters())
async def count_clients(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the clients that meet the filters, as `online=true`."""
    return CountView(count=CLIENTS.count(await api.people.clients(project), asked))


@router.get("/clients/{client}", summary="Show a client")
async def client(api: Parts, client: Client, project: Project = "default") -> ClientView:
    """Show a client: its name, its keys, and whether it is online."""
    found = await api.people.client(project, client)
    if found is None:
        raise Problem(RefusalCode.CLIENT_UNKNOWN, f"client {client} in project {project}")
    return found


@router.patch("/clients/{client}", summary="Rename a client")
async def rename(
    api: Parts,
    client: Client,
    change: Annotated[ClientChange, Body(examples=[{"name": "hospital-north"}])],
    project: Project = "default",
) -> ClientView:
    """Give a client another name for people. Its pseudonym, its keys and the log stay as they are."""
    return await api.people.rename(project, client, change.name)


@router.delete("/clients/{client}", summary="Erase a client", status_code=204)
async def erase(api: Parts, client: Client, project: Project = "default") -> None:
    """Forget who a pseudonym is: its name, its keys, its attributes. The log stays, and verifies.

    Nothing is taken from it any more, and no round asks it. This shuts nobody out: a device whose
    credentials still hold is a new client when it says hello. Asked again, the answer is `client_unknown`.
    """
    await api.people.erase(project, client)


@router.get("/controllers", summary="List the controllers", openapi_extra=CONTROLLERS.parameters())
async def controllers(
    api: Parts, asked: AskedList, project: Project = "default"
) -> Page[ControllerView]:
    """List the controllers that decided on the project's sessions, the last one first."""
    return page(CONTROLLERS.page(await api.people.controllers(project), asked, project))


@router.get(
    "/controllers/count", summary="Count the controllers", openapi_extra=CONTROLLERS.parameters()
)
async def count_controllers(
    api: Parts, asked: AskedList, project: Project = "default"
) -> CountView:
    """Count the controllers that meet the filters."""
    return CountView(count=CONTROLLERS.count(await api.people.controllers(project), asked))


@router.get("/combiners", summary="List the combiners", openapi_extra=COMBINERS.parameters())
async def combiners(
    api: Parts, asked: AskedList, project: Project = "default"
) -> Page[CombinerView]:
    """List the combiners that worked on the project's rounds, the last one first."""
    return page(COMBINERS.page(await api.people.combiners(project), asked, project))


@router.get("/combiners/count", summary="Count the combiners", openapi_extra=COMBINERS.parameters())
async def count_combiners(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the combiners that meet the filters."""
    return CountView(count=COMBINERS.count(await api.people.combiners(project), asked))


@router.get("/refusals", summary="List what was refused", openapi_extra=REFUSALS.parameters())
async def refusals(api: Parts, asked: AskedList, project: Project = "default") -> Page[RefusalView]:
    """List the clients' requests that were refused, the last first.

    An update that was stored and then not counted stands in its round instead.
    """
    return page(REFUSALS.page(await api.people.refusals(project), asked, project))


@router.get(
    "/refusals/count", summary="Count what was refused", openapi_extra=REFUSALS.parameters()
)
async def count_refusals(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the refusals that meet the filters."""
    return CountView(count=REFUSALS.count(await api.people.refusals(project), asked))


@router.get("/validations", summary="List the validations", openapi_extra=VALIDATIONS.parameters())
async def validations(
    api: Parts, asked: AskedList, project: Project = "default"
) -> Page[ValidationReportView]:
    """List what clients measured of models on their own data, the last first."""
    return page(VALIDATIONS.page(await api.validations.reports(project), asked, project))


@router.get(
    "/validations/count", summary="Count the validations", openapi_extra=VALIDATIONS.parameters()
)
async def count_validations(
    api: Parts, asked: AskedList, project: Project = "default"
) -> CountView:
    """Count the reports that meet the filters."""
    return CountView(count=VALIDATIONS.count(await api.validations.reports(project), asked))
