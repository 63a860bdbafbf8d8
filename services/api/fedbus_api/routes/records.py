"""What clients logged: metrics, attributes, telemetry, inference results, events; and what waits at them."""

from typing import Annotated

from fastapi import APIRouter, Query
from fedbus_schemas.record_views import (
    AttributeChangeView,
    AttributeView,
    BacklogView,
    MetricView,
    ResultView,
    SelectionView,
    StatusEventView,
    TelemetryView,
)
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.selection import IDS_MAX, TEXT_MAX, BadQuery, ClientQuery, parse_conditions
from fedbus_schemas.views import CountView, Page

from fedbus_api.lists import (
    ATTRIBUTE_CHANGES,
    ATTRIBUTES,
    BACKLOGS,
    METRICS,
    RESULTS,
    STATUS_EVENTS,
    TELEMETRY,
)
from fedbus_api.problems import Problem
from fedbus_api.routes.parameters import AskedList, Project, page
from fedbus_api.wiring import Parts

Ids = Annotated[
    list[str] | None,
    Query(alias="id", max_length=IDS_MAX, description="A client's pseudonym or name; repeatable."),
]
Where = Annotated[
    str,
    Query(
        max_length=TEXT_MAX,
        description="Conditions on attributes, with a comma between any two.",
        examples=["site=eu,gpu>=1"],
    ),
]

router = APIRouter(prefix="/v1", tags=["records"])


@router.get("/metrics", summary="List metrics", openapi_extra=METRICS.parameters())
async def metrics(api: Parts, asked: AskedList, project: Project = "default") -> Page[MetricView]:
    """List the numbers that clients logged with `log_metric`, the last stored first."""
    return page(METRICS.page(await api.records.metrics.rows(project), asked, project))


@router.get("/metrics/count", summary="Count metrics", openapi_extra=METRICS.parameters())
async def count_metrics(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the metrics that meet the filters."""
    return CountView(count=METRICS.count(await api.records.metrics.rows(project), asked))


@router.get("/attributes", summary="List attributes", openapi_extra=ATTRIBUTES.parameters())
async def attributes(
    api: Parts, asked: AskedList, project: Project = "default"
) -> Page[AttributeView]:
    """List what clients are like now, one attribute an item."""
    return page(ATTRIBUTES.page(await api.records.attributes(project), asked, project))


@router.get("/attributes/count", summary="Count attributes", openapi_extra=ATTRIBUTES.parameters())
async def count_attributes(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the attributes that meet the filters, as `key=site&value=eu`."""
    return CountView(count=ATTRIBUTES.count(await api.records.attributes(project), asked))


@router.get(
    "/attributes/history",
    summary="List changes of attributes",
    openapi_extra=ATTRIBUTE_CHANGES.parameters(),
)
async def attribute_changes(
    api: Parts, asked: AskedList, project: Project = "default"
) -> Page[AttributeChangeView]:
    """List how attributes changed, the last stored first."""
    return page(ATTRIBUTE_CHANGES.page(await api.records.changes.rows(project), asked, project))


@router.get("/telemetry", summary="List telemetry", openapi_extra=TELEMETRY.parameters())
async def telemetry(
    api: Parts, asked: AskedList, project: Project = "default"
) -> Page[TelemetryView]:
    """List what clients observed, the last stored first."""
    return page(TELEMETRY.page(await api.records.telemetry.rows(project), asked, project))


@router.get("/telemetry/count", summary="Count telemetry", openapi_extra=TELEMETRY.parameters())
async def count_telemetry(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the telemetry that meets the filters."""
    return CountView(count=TELEMETRY.count(await api.records.telemetry.rows(project), asked))


@router.get(
    "/inference-results", summary="List inference results", openapi_extra=RESULTS.parameters()
)
async def results(api: Parts, asked: AskedList, project: Project = "default") -> Page[ResultView]:
    """List what models answered at the clients, the last stored first."""
    return page(RESULTS.page(await api.records.results.rows(project), asked, project))


@router.get(
    "/inference-results/count",
    summary="Count inference results",
    openapi_extra=RESULTS.parameters(),
)
async def count_results(api: Parts, asked: AskedList, project: Project = "default") -> CountView:
    """Count the results that meet the filters."""
    return CountView(count=RESULTS.count(await api.records.results.rows(project), asked))


@router.get("/status-events", summary="List events", openapi_extra=STATUS_EVENTS.parameters())
async def status_events(
    api: Parts, asked: AskedList, project: Project = "default"
) -> Page[StatusEventView]:
    """List the lines that clients wrote for people, the last stored first."""
    return page(STATUS_EVENTS.page(await api.records.events.rows(project), asked, project))


@router.get(
    "/status-events/count", summary="Count events", openapi_extra=STATUS_EVENTS.parameters()
)
async def count_status_events(
    api: Parts, asked: AskedList, project: Project = "default"
) -> CountView:
    """Count the events that meet the filters."""
    return CountView(count=STATUS_EVENTS.count(await api.records.events.rows(project), asked))


@router.get("/backlogs", summary="List backlogs", openapi_extra=BACKLOGS.parameters())
async def backlogs(api: Parts, asked: AskedList, project: Project = "default") -> Page[BacklogView]:
    """List what waits at each client to be sent, and how good its link is, as it said last."""
    return page(BACKLOGS.page(await api.records.backlogs(project), asked, project))


@router.get("/selection", summary="Say which clients a query means")
async def selection(
    api: Parts, ids: Ids = None, where: Where = "", project: Project = "default"
) -> SelectionView:
    """Say which clients are meant now, and why each other one is not."""
    try:
        query = ClientQuery(ids=tuple(ids or ()), where=parse_conditions(where))
    except BadQuery as error:
        raise Problem(RefusalCode.INVALID, f"query.where: {error}") from error
    choice = await api.records.choose(project, query)
    return SelectionView(
        chosen=tuple(one.client for one in choice.chosen), left_out=dict(choice.left_out)
    )
