"""Gathers what there is to say of why an attempt went as it did, for `fedbus_core.audit.explain`."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime

from fedbus_core.audit.explain import AttemptFacts, KnownClient, Turned, explain, phases, summary
from fedbus_runtime.ports import Streams
from fedbus_schemas import subjects
from fedbus_schemas.explain_views import ExplanationView, Standing
from fedbus_schemas.ids import ClientId, ProjectId, Scalar
from fedbus_schemas.streams import UPDATES
from fedbus_schemas.views import Outcome

from fedbus_api.documents import Attempt, SessionDocument
from fedbus_api.live import Live
from fedbus_api.people import People
from fedbus_api.records import Records

CLIENTS_MAX = 1_000
"""Clients that an explanation tells of one by one; the counts are over all."""


class Explaining:
    """Explains attempts."""

    def __init__(self, streams: Streams, live: Live, people: People, records: Records) -> None:
        self._streams = streams
        self._live = live
        self._people = people
        self._records = records

    async def explain(
        self,
        document: SessionDocument,
        number: int,
        attempt: Attempt,
        *,
        clients: Collection[str] = (),
        standings: Collection[Standing] = (),
    ) -> ExplanationView:
        """Explain an attempt; `clients` (by pseudonym or name) and `standings` narrow whom it tells of."""
        project = document.project
        facts = await self._facts(document, number, attempt)
        arrivals, _ = await self._live.arrivals(document, number, attempt, attempt.cohort)
        arrived_s = {one: (at - attempt.opened).total_seconds() for one, at, _ in arrivals}
        turned = await self._turned(document, number, attempt)
        found = explain(facts, await self._known(project, document, attempt), turned, arrived_s)
        told = [
            one
            for one in found
            if (not clients or one.client in clients or one.name in clients)
            and (not standings or one.standing in standings)
        ]
        passed = phases(facts, arrived_s)
        longest = max(passed, key=lambda one: one.seconds, default=None)
        return ExplanationView(
            session=document.session,
            number=number,
            attempt=attempt.attempt,
            outcome=attempt.outcome,
            summary=summary(facts),
            opened=attempt.opened,
            closed_by=attempt.closed_by,
            counts=dict(Counter(one.standing for one in found)),
            clients=tuple(told[:CLIENTS_MAX]),
            left_out=max(0, len(told) - CLIENTS_MAX),
            phases=tuple(passed),
            longest=longest.name if longest is not None else "",
        )

    async def _facts(
        self, document: SessionDocument, number: int, attempt: Attempt
    ) -> AttemptFacts:
        subject = subjects.updates_of(document.project, document.session, number, attempt.attempt)
        stored = await self._streams.subjects(UPDATES, subject)
        return AttemptFacts(
            settings=document.settings,
            number=number,
            attempt=attempt.attempt,
            cohort=attempt.cohort,
            target=attempt.target,
            minimum=attempt.minimum,
            opened=attempt.opened,
            closed_by=attempt.closed_by,
            closing_asked=attempt.closing_asked,
            closing=attempt.closing,
            ended_asked=attempt.ended_asked,
            ended=attempt.ended,
            has_model=attempt.outcome is Outcome.COMPLETED,
            counted=frozenset(attempt.counted),
            refused=attempt.refused,
            timings=attempt.timings,
            stored=frozenset(subjects.token(one, 5) for one in stored),
            pruned=attempt.pruned or document.archived is not None,
        )

    async def _known(
        self, project: ProjectId, document: SessionDocument, attempt: Attempt
    ) -> list[KnownClient]:
        query = document.settings.clients
        attributes: Mapping[ClientId, Mapping[str, Scalar]] = {}
        if query is not None and query.where:
            attributes = await self._records.attributes_at(project, attempt.opened)
        return [
            KnownClient(
                client=one.client,
                name=one.name,
                since=one.since,
                attributes=attributes.get(one.client, {}),
            )
            for one in await self._people.registered(project)
        ]

    async def _turned(
        self, document: SessionDocument, number: int, attempt: Attempt
    ) -> dict[ClientId, Turned]:
        """Find what was refused clients last for this round, from the attempt's opening on."""
        later = document.latest is not None and document.latest.number > number
        until: datetime | None = None
        if not later and document.latest is not None:
            after = [one for one in document.latest.attempts if one.attempt > attempt.attempt]
            until = after[0].opened if after else None
        return {
            one.client: Turned(one.code, one.meaning, one.detail)
            for one in await self._people.refusals(document.project)
            if one.client is not None
            and (one.session, one.round) == (document.session, number)
            and one.time >= attempt.opened
            and (until is None or one.time < until)
        }
