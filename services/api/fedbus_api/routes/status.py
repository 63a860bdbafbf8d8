"""The project at a glance, and the process's health."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence

from fastapi import APIRouter, Depends
from fedbus_runtime.errors import Away
from fedbus_schemas import keys, subjects
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import EVENTS, REGISTRY
from fedbus_schemas.views import HealthView, ServerState, ServersView, StatusView, StuckView

from fedbus_api.documents import SessionDocument
from fedbus_api.problems import Problem
from fedbus_api.routes.parameters import Project, bearer
from fedbus_api.wiring import Api, Parts

SERVER_WAIT_S = 2.0
STUCK_MAX = 100

router = APIRouter(tags=["status"])


@router.get("/v1/status", summary="Show the project at a glance", dependencies=[Depends(bearer)])
async def status(api: Parts, project: Project = "default") -> StatusView:
    """Count sessions by phase, clients and models, and say which servers answer."""
    servers = await _servers(api, project)
    if servers.bus is ServerState.AWAY:
        return StatusView(project=project, servers=servers)
    documents = await api.reader.sessions(project)
    clients = await api.people.clients(project)
    known = [one.online for one in clients if one.online is not None]
    models = await api.ports.streams.subjects(REGISTRY, subjects.model_record(project))
    letters = await api.dead_letters.count(project)
    return StatusView(
        project=project,
        sessions=dict(sorted(Counter(one.phase.value for one in documents).items())),
        clients=len(clients),
        clients_online=sum(known) if known or not clients else None,
        models_uploaded=len(models),
        dead_letters=letters,
        stuck=await _stuck(api, documents) if letters else {},
        servers=servers,
    )


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> HealthView:
    """Answer as long as the process does."""
    return HealthView()


@router.get("/readyz", summary="Is the process connected and at work?")
async def readyz(api: Parts) -> HealthView:
    """Answer 503 while the bus is away or the process stops."""
    missing = {"service": "stopping"} if api.stopping.is_set() else api.missing()
    if missing:
        detail = ", ".join(f"{name}: {why}" for name, why in sorted(missing.items()))
        raise Problem(RefusalCode.RETRY_LATER, detail)
    return HealthView()


async def _stuck(api: Api, documents: Sequence[SessionDocument]) -> dict[SessionId, StuckView]:
    found: dict[SessionId, StuckView] = {}
    for document in documents:
        view = await api.dead_letters.stuck(document)
        if view is not None and len(found) < STUCK_MAX:
            found[document.session] = view
    return found


async def _servers(api: Api, project: ProjectId) -> ServersView:
    ports = api.ports
    bus, records, store = await asyncio.gather(
        _answers(ports.streams.last(EVENTS, subjects.event(project, "*"))),
        _answers(ports.documents.get(project, "probe", "status")),
        _answers(ports.blobs.size(keys.model(project, "0" * 64))),
    )
    return ServersView(bus=bus, records=records, store=store)


async def _answers(question: Awaitable[object]) -> ServerState:
    try:
        async with asyncio.timeout(SERVER_WAIT_S):
            await question
    except (Away, TimeoutError):
        return ServerState.AWAY
    return ServerState.OK
