"""Stages of models: candidate, production, or whatever a project calls them."""

from typing import Annotated

from fastapi import APIRouter, Body, Path
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.registry import StageName
from fedbus_schemas.trail_views import RollBackRequest, StageRequest, StageView
from fedbus_schemas.views import Page

from fedbus_api.access.identity import Caller
from fedbus_api.lists import STAGES
from fedbus_api.problems import Problem
from fedbus_api.routes.parameters import AskedList, IdempotencyKey, Project, page
from fedbus_api.wiring import Parts

Stage = Annotated[
    StageName, Path(description="The stage: a name of your own.", examples=["production"])
]

router = APIRouter(prefix="/v1/stages", tags=["stages"])


@router.get("", summary="List the stages", openapi_extra=STAGES.parameters())
async def stages(api: Parts, asked: AskedList, project: Project = "default") -> Page[StageView]:
    """List the stages with the model that is in each, and those that were before."""
    return page(STAGES.page(await api.stages.stages(project), asked, project))


@router.get("/{stage}", summary="Show a stage")
async def show(api: Parts, stage: Stage, project: Project = "default") -> StageView:
    """Show which model is in a stage now, and its history, the last first."""
    return await api.stages.stage(project, stage)


@router.put("/{stage}", summary="Promote a model")
async def promote(
    api: Parts,
    caller: Caller,
    stage: Stage,
    request: Annotated[
        StageRequest, Body(examples=[{"from_stage": "candidate", "reason": "better on site 3"}])
    ],
    project: Project = "default",
) -> StageView:
    """Put a model into a stage: one by its SHA-256, or the one that is in another stage."""
    model = request.model
    if (model is None) is (request.from_stage is None):
        raise Problem(RefusalCode.INVALID, "body: give either model or from_stage")
    if model is None:
        assert request.from_stage is not None
        model = (await api.stages.stage(project, request.from_stage)).model
    if await api.catalog.ref(project, model) is None:
        raise Problem(RefusalCode.NOT_FOUND, f"model {model} in project {project}")
    return await api.stages.promote(project, stage, model, reason=request.reason, by=caller.name)


@router.post("/{stage}/rollback", summary="Roll a stage back")
async def roll_back(
    api: Parts,
    caller: Caller,
    stage: Stage,
    request: RollBackRequest | None = None,
    project: Project = "default",
    idempotency_key: IdempotencyKey = None,
) -> StageView:
    """Put the model back that was in the stage before. Asked twice, it goes back twice.

    With an `Idempotency-Key` it goes back once, however often it is asked.
    """
    reason = (request or RollBackRequest()).reason
    return await api.stages.roll_back(
        project, stage, reason=reason, by=caller.name, key=idempotency_key
    )
