"""A whole federation in a unit test: your trainers, and the rounds' models and metrics as plain values.

```python
import numpy as np
from fedbus_local.testing import Federation


def train(model, settings):
    model["w"] += settings["step"]
    return model, 10, {"loss": 1.0}


def test_two_clients_agree():
    ran = Federation([train, train], {"w": np.zeros(3, np.float32)}).run(rounds=2, train={"step": 0.5})
    assert ran.model["w"].tolist() == [1.0, 1.0, 1.0]
    assert ran.rounds[0].metrics == {"loss": 1.0}
```

It needs no server and no network: the production controller, combiner and client run over servers in
memory. The same trainers, model and settings give the same bits every time. What a trainer raises, and what
cannot be sent of what it returns, comes out of `run`.
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

import fedbus
import numpy as np
from fedbus import _tensorfile
from fedbus.trainer import Model
from fedbus_core.aggregation.checks import check_model
from fedbus_core.aggregation.grid import Numbers, exponents_of
from fedbus_core.aggregation.tensorfile import parse_layout
from fedbus_core.rounds.log import read_entry
from fedbus_runtime.errors import BlobMissing
from fedbus_schemas import keys, subjects
from fedbus_schemas.codec import digest
from fedbus_schemas.events import (
    AnyEvent,
    RoundCompleted,
    SessionCompleted,
    SessionFailed,
    SessionStopped,
)
from fedbus_schemas.models import ModelRef
from fedbus_schemas.sessions import SessionSettings, StartSession
from fedbus_schemas.streams import EVENTS, TELEMETRY
from fedbus_schemas.updates import ValidationReport
from numpy.typing import ArrayLike

from fedbus_local.in_memory import PROJECT, Stack, Trainers, quiet

SESSION = "s-test"
LOOK_S = 0.01
VALIDATIONS_WAIT_S = 10.0
"""How long to wait, after the last round, for the validations of its model."""


class FederationFailed(Exception):
    """The session did not come to its end; the text says why, and `__cause__` what a trainer raised."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round came to. Clients are named `site-1`, `site-2`, … in the order of the trainers."""

    number: int
    model: Model
    """The new model."""
    metrics: Mapping[str, float]
    """The means of the clients' metrics, by their weights."""
    weight: int
    """The number of examples behind it."""
    counted: tuple[str, ...]
    refused: Mapping[str, str]
    """Clients whose update was not counted, with the reason."""
    validations: Mapping[str, Mapping[str, float]]
    """What each client measured of the new model."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A session that came to its end."""

    rounds: tuple[Round, ...]

    @property
    def model(self) -> Model:
        """The last model."""
        return self.rounds[-1].model


@dataclass(frozen=True, slots=True)
class Federation:
    """Clients with these trainers, and the model that they begin with."""

    trainers: Trainers
    model: Mapping[str, ArrayLike]

    def run(self, *, timeout_s: float = 60.0, **settings: object) -> Ran:
        """Run one session to its end; `settings` are those of a session (`rounds`, `train`, `seed`, …).

        All clients are waited for in each round unless `minimum` or `target` say else. Raises
        `FederationFailed`, and `TimeoutError`. In a coroutine, await `run_async` instead.
        """
        return asyncio.run(self.run_async(timeout_s=timeout_s, **settings))

    async def run_async(self, *, timeout_s: float = 60.0, **settings: object) -> Ran:
        """Run one session to its end, as `run` does."""
        given = {"minimum": len(self.trainers), "round_timeout_s": timeout_s, **settings}
        wanted = SessionSettings.model_validate(given)
        ran: Ran | None = None
        with tempfile.TemporaryDirectory() as folder, _Complaints() as complaints, quiet():
            async with asyncio.TaskGroup() as tasks:
                stack = Stack(tasks, Path(folder))
                try:
                    async with asyncio.timeout(timeout_s):
                        ran = await _Run(self, stack, wanted, complaints).run()
                except TimeoutError as error:
                    complaints.first = complaints.first or error
                except FederationFailed as error:
                    complaints.first = error
                finally:
                    stack.stop()
        if complaints.first is not None:
            raise complaints.first
        assert ran is not None
        return ran


class _Complaints(logging.Handler):
    """Keeps the first error that a client logs: what a trainer raised, or why its result cannot be sent."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.first: Exception | None = None

    def __enter__(self) -> Self:
        logging.getLogger("fedbus").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("fedbus").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if self.first is None:
            self.first = FederationFailed(record.getMessage())
            if record.exc_info is not None:
                self.first.__cause__ = record.exc_info[1]


@dataclass(slots=True)
class _Run:
    """One session under way."""

    federation: Federation
    stack: Stack
    settings: SessionSettings
    complaints: _Complaints
    names: dict[str, str] = field(default_factory=dict)

    async def run(self) -> Ran:
        """Start all, and follow the session to its end."""
        stack = self.stack
        await stack.start()
        trainers = [_trainer(one) for one in self.federation.trainers]
        for number, trainer in enumerate(trainers, 1):
            name = f"site-{number}"
            self.names[await stack.join(name, trainer)] = name
        start = StartSession(session=SESSION, settings=self.settings, model=await self._begin())
        await self._all_online()
        await stack.ports.streams.append(subjects.command(PROJECT, SESSION), start.to_bytes())
        completed: list[RoundCompleted] = []
        async for event in self._events():
            if isinstance(event, RoundCompleted):
                completed.append(event)
            elif isinstance(event, SessionFailed):
                detail = f"round {event.round}: {event.reason} {event.detail}".rstrip()
                raise FederationFailed(f"the session failed in {detail}")
        validating = sum(trainer.validate is not None for trainer in trainers)
        await self._all_validated(completed[-1], validating if self.settings.validate_models else 0)
        return Ran(tuple([await self._round(event) for event in completed]))

    async def _begin(self) -> ModelRef:
        arrays = {name: np.asarray(one) for name, one in self.federation.model.items()}
        data = _tensorfile.write(arrays)
        layout = parse_layout(data, len(data))
        finding = check_model(layout, data, Numbers())
        if finding is not None:
            raise FederationFailed(f"the model cannot be trained: {finding.detail}")
        ref = ModelRef(
            digest=digest(data),
            size=len(data),
            layout=layout.digest,
            exponents=exponents_of(layout, data),
        )
        await self.stack.ports.blobs.put(keys.model(PROJECT, ref.digest), [data])
        return ref

    async def _all_online(self) -> None:
        ports = self.stack.ports
        since = ports.clock.now() - timedelta(days=1)
        while len(await ports.presence.online(PROJECT, since) or {}) < len(self.names):
            await self._look_again()

    async def _events(self) -> AsyncIterator[AnyEvent]:
        after = 0
        while True:
            subject = subjects.event(PROJECT, SESSION)
            for entry in await self.stack.ports.streams.read(EVENTS, subject, after=after):
                after = entry.sequence
                for event in read_entry(entry.data)[1]:
                    yield event
                    if isinstance(event, SessionCompleted | SessionStopped):
                        return
            await self._look_again()

    async def _all_validated(self, last: RoundCompleted, wanted: int) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + VALIDATIONS_WAIT_S
        while len(await self._validations(last)) < wanted and loop.time() < until:
            await self._look_again()

    async def _look_again(self) -> None:
        if self.complaints.first is not None:
            raise FederationFailed(str(self.complaints.first)) from self.complaints.first.__cause__
        await asyncio.sleep(LOOK_S)

    async def _round(self, event: RoundCompleted) -> Round:
        key = keys.model(PROJECT, event.model.digest)
        try:
            data = await self.stack.ports.blobs.get(key, event.model.size)
        except BlobMissing as error:
            raise FederationFailed(f"the model of round {event.round} is gone") from error
        return Round(
            number=event.round,
            model=_tensorfile.read(data),
            metrics=event.metrics,
            weight=event.weight,
            counted=tuple(sorted(self.names[client] for client in event.counted)),
            refused={self.names[one.client]: f"{one.code}: {one.detail}" for one in event.refused},
            validations=await self._validations(event),
        )

    async def _validations(self, event: RoundCompleted) -> dict[str, Mapping[str, float]]:
        subject = subjects.validation(PROJECT, "*", SESSION, event.round)
        found = await self.stack.ports.streams.read(TELEMETRY, subject)
        reports = {
            self.names[subjects.token(one.subject, 3)]: ValidationReport.model_validate_json(
                one.data
            )
            for one in found
        }
        return {
            name: report.metrics
            for name, report in sorted(reports.items())
            if report.model == event.model.digest
        }


def _trainer(given: fedbus.Trainer | fedbus.TrainFunction) -> fedbus.Trainer:
    return given if isinstance(given, fedbus.Trainer) else fedbus.Trainer(given)
