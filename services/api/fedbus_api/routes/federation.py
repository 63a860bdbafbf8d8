"""The federation: which package and seed model it runs, and the one way to begin anew."""

from typing import Annotated

from fastapi import APIRouter, Body
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.views import FederationView, InitialiseRequest

from fedbus_api.problems import Problem
from fedbus_api.routes.parameters import Project
from fedbus_api.wiring import Parts

router = APIRouter(prefix="/v1/federation", tags=["federation"])


@router.get("", summary="Show the federation")
async def show(api: Parts, project: Project = "default") -> FederationView:
    """Show the active package, whether it can still be replaced, and the generations so far."""
    return await api.packages.federation(project)


@router.post("/initialise", summary="Begin a new generation")
async def initialise(
    api: Parts,
    request: Annotated[InitialiseRequest, Body()],
    project: Project = "default",
) -> FederationView:
    """Set a new package and seed model. Sessions that run keep theirs; start a new one for the new package."""
    if await api.catalog.ref(project, request.model) is None:
        raise Problem(RefusalCode.NOT_FOUND, f"model {request.model}: upload it first")
    return await api.packages.initialise(project, request.package, request.model)
