"""Many tiny rounds under retention: what is kept by age or number stays level, and only the log grows.

The stack gets ages of seconds, so that they come to bear within the run.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import pytest
from fedbus_local.stack import LocalStack

from tests.e2e.stores import store_of
from tests.soak.measures import Sample, look
from tests.soak.play import settled
from tests.soak.verdict import Finding
from tests.stacks import Federation, federation
from tests.trainers import TINY

CLIENTS = 3
ROUNDS = 20
"""Rounds of a session."""
SESSIONS_MAX = 2
AGE_S = 5
SETTINGS: Mapping[str, str] = {
    "FEDBUS_RETENTION__ENDED_SESSIONS_MAX": str(SESSIONS_MAX),
    "FEDBUS_RETENTION__LOOK_EVERY": "PT1S",
    "FEDBUS_RETENTION__NOTES_AGE": f"PT{AGE_S}S",
    "FEDBUS_RETENTION__TELEMETRY_AGE": f"PT{AGE_S}S",
    "FEDBUS_RETENTION__DEAD_LETTERS_AGE": f"PT{AGE_S}S",
    "FEDBUS_RETENTION__ACTS_AGE": f"PT{AGE_S}S",
    "FEDBUS_RETENTION__MAIL_AGE": f"PT{AGE_S}S",
    "FEDBUS_REDIS__DOCUMENTS_AGE": f"PT{AGE_S}S",
}

KEPT = ("stream EVENTS", "stream HEADS", "blobs models", "blobs sets", "redis round")
"""What a session's evidence is made of: so much for each round, for ever; and a key a session, for a week."""
TOLD = ("memory ", "disk ", "redis memory", "consumer ")
"""What `make soak` by time judges, over an hour."""
SESSIONS_WORTH = 10
"""What is level never holds more than so many sessions leave, however many there were."""
SLACK = 12
SLACK_KB = 64
APART_MAX = 1.2


@contextmanager
def short_lives() -> Iterator[None]:
    """Let stacks that start inside keep things for seconds only."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        yield


async def run(stack: LocalStack, rounds: int, told: Callable[[str], None] = print) -> list[Sample]:
    """Play so many rounds and give a sample after each session."""
    samples: list[Sample] = []
    async with store_of(stack) as store, federation(stack, CLIENTS) as fed:
        while len(samples) * ROUNDS < rounds:
            began_s = time.monotonic()
            await _session(fed, len(samples) + 1)
            done = (len(samples) + 1) * ROUNDS
            samples.append(await settled(partial(look, stack, store, done)))
            told(f"{done} rounds, {time.monotonic() - began_s:.1f} s")
    return samples


async def _session(fed: Federation, number: int) -> None:
    session = await fed.start(TINY, rounds=ROUNDS, seed=number)
    await fed.ended(session)
    fed.leave(session)


def judge(samples: Sequence[Sample]) -> list[Finding]:
    """Judge each measure: bounded in the last third, or growing evenly if kept."""
    third = len(samples) // 3
    assert third >= 2, f"{len(samples)} samples say nothing; ask for more rounds"
    middle, last = samples[third : 2 * third], samples[-third:]
    found = []
    for name in sorted(samples[-1].values):
        if name.startswith(TOLD):
            continue
        before = max(one.values.get(name, 0.0) for one in middle)
        after = max(one.values.get(name, 0.0) for one in last)
        early = _a_round(name, samples[third], middle[-1])
        late = _a_round(name, last[0], last[-1])
        if name.startswith(KEPT):
            rule, fine = "kept", late <= APART_MAX * early + 1
        else:
            slack = SLACK_KB if "(KB)" in name else SLACK
            bound = max(slack, SESSIONS_WORTH * samples[0].values.get(name, 0.0))
            rule, fine = "level", after <= bound
        values = (samples[0].values.get(name, 0.0), before, after)
        found.append(Finding(name, rule, values, (early, late), fine))
    return found


def _a_round(name: str, first: Sample, last: Sample) -> float:
    grown = last.values.get(name, 0.0) - first.values.get(name, 0.0)
    return grown / max(1, last.rounds - first.rounds)
