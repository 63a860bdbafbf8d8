"""The parts of an api process, made from its connections: what the routes get."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request
from fedbus_core.commands.log import fold as fold_command
from fedbus_core.commands.state import Command
from fedbus_core.rounds.log import fold
from fedbus_core.rounds.state import Session
from fedbus_runtime.budgets import Budgets
from fedbus_runtime.connections import Connections
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.registry import ClientRegistry
from fedbus_runtime.retention import Retention
from fedbus_schemas import subjects
from fedbus_schemas.streams import ACTS, COMMANDS, NOTES, RECORDS, TELEMETRY, Stream
from fedbus_schemas.views import TrustView

from fedbus_api.access.acts import Acts
from fedbus_api.access.enrolment import Enrolling
from fedbus_api.access.guard import Access
from fedbus_api.access.oidc import Oidc
from fedbus_api.access.tokens import Tokens
from fedbus_api.catalog import Catalog
from fedbus_api.command_tree import CommandTree
from fedbus_api.commands import Commands
from fedbus_api.dead_letters import DeadLetters
from fedbus_api.evidence import Evidence
from fedbus_api.explaining import Explaining
from fedbus_api.functions import Functions
from fedbus_api.inspecting import Inspector
from fedbus_api.lists import RoundRows
from fedbus_api.live import Live
from fedbus_api.packages import Packages
from fedbus_api.people import People
from fedbus_api.reading import Reader
from fedbus_api.records import Records
from fedbus_api.settings import ApiSection, read_ca
from fedbus_api.stages import Stages
from fedbus_api.validations import Validations
from fedbus_api.watching import Watch


@dataclass(slots=True, kw_only=True)
class Api:
    """The parts. `stopping` ends the event streams; `missing` says what keeps the process from serving."""

    ports: Connections
    settings: ApiSection
    access: Access
    enrolling: Enrolling
    trust: TrustView
    reader: Reader
    live: Live
    explaining: Explaining
    evidence: Evidence
    validations: Validations
    rounds: RoundRows
    commands: Commands
    tree: CommandTree
    catalog: Catalog
    inspector: Inspector
    stages: Stages
    functions: Functions
    packages: Packages
    people: People
    records: Records
    dead_letters: DeadLetters
    missing: Callable[[], dict[str, str]]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    event_streams: set[int] = field(default_factory=set)


def wire(
    ports: Connections,
    settings: ApiSection,
    *,
    token: str | None = None,
    trust: TrustView | None = None,
    missing: Callable[[], dict[str, str]] = dict,
    kept: Stream = RECORDS,
    retention: Retention | None = None,
) -> Api:
    """Put the parts together. `kept` are the clients' records, `retention` is for the rest."""
    kept_for = (retention or Retention()).of
    reader = Reader(ports.streams, ports.documents)
    log: FoldedLog[Session] = FoldedLog(ports.streams, fold)
    wait_s = settings.decision_wait / timedelta(seconds=1)
    validations = Validations(ports.streams, ports.clock, kept_for(TELEMETRY))
    access = Access(
        first=token,
        tokens=Tokens(ports.streams, ports.clock),
        oidc=Oidc(settings.oidc, ports.clock) if settings.oidc.issuer else None,
        acts=Acts(ports.streams, ports.clock, kept_for(ACTS)),
        budgets=Budgets(
            ports.clock, burst=settings.requests_burst, per_second=settings.requests_per_s
        ),
        clock=ports.clock,
        body_bytes_max=settings.body_bytes_max,
    )
    dead_letters = DeadLetters(ports.streams, ports.clock, wait_s)
    registry = ClientRegistry(ports.streams)
    watch = Watch(ports.wire, ports.clock)
    live = Live(ports.streams, ports.records, dead_letters, validations)
    lease = settings.online_lease
    notes = kept_for(NOTES)
    people = People(ports.streams, ports.presence, registry, reader, ports.clock, lease, notes)
    records = Records(ports.streams, ports.clock, registry, kept, kept_for(TELEMETRY))
    return Api(
        ports=ports,
        settings=settings,
        access=access,
        enrolling=Enrolling(
            streams=ports.streams,
            wire=ports.wire,
            clock=ports.clock,
            servers=tuple(one.strip() for one in settings.bus_servers.split(",") if one.strip()),
            ca=read_ca(settings.bus_ca_file),
        ),
        trust=trust or TrustView(),
        reader=reader,
        live=live,
        explaining=Explaining(ports.streams, live, people, records),
        evidence=Evidence(ports.streams, reader),
        validations=validations,
        rounds=RoundRows(),
        commands=Commands(
            streams=ports.streams,
            watch=watch,
            documents=ports.documents,
            clock=ports.clock,
            reader=reader,
            log=log,
            wait_s=wait_s,
        ),
        tree=CommandTree(
            ports.streams,
            watch,
            registry,
            FoldedLog[Command](ports.streams, fold_command, COMMANDS, subjects.command_log),
            wait_s,
        ),
        catalog=Catalog(ports.streams, ports.blobs, reader, ports.clock, settings.model_bytes_max),
        inspector=Inspector(ports.blobs, settings.inspected_bytes_max),
        stages=Stages(ports.streams, ports.clock),
        functions=Functions(ports.blobs),
        packages=Packages(ports.streams, ports.blobs, ports.clock, settings.package_bytes_max),
        people=people,
        records=records,
        dead_letters=dead_letters,
        missing=missing,
    )


def api_of(request: Request) -> Api:
    """Give the parts to a route."""
    api: Api = request.app.state.api
    return api


Parts = Annotated[Api, Depends(api_of)]
