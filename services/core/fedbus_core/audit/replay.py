"""Makes every model of a session again, from the first model and the updates alone.

The updates are folded in another order and in other batches than the combiners used; since sums are
exact, the SHA-256 must be the one in the log. Memory: two sums, two models and one update at a time, and
what the rule remembers.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from fedbus_schemas import keys
from fedbus_schemas.aggregators import Given, parameters_of
from fedbus_schemas.codec import Unreadable, digest, read
from fedbus_schemas.events import RoundCompleted
from fedbus_schemas.models import BlobRef
from fedbus_schemas.sessions import SessionSettings
from fedbus_schemas.sets import IncludedSet, IncludedUpdate

from fedbus_core.aggregation.round_sum import Made
from fedbus_core.aggregation.rules import RULES, rule_of
from fedbus_core.aggregation.rules.rule import FunctionRule, Rule
from fedbus_core.aggregation.server_functions import Run
from fedbus_core.aggregation.tensorfile import Buffer, TensorFileError
from fedbus_core.audit.bundle import MESSAGE_BYTES_MAX, Bundle, BundleError, Reader, log_name
from fedbus_core.audit.chain import Outcome, Walk
from fedbus_core.audit.difference import Difference, difference
from fedbus_core.audit.remaking import Impossible, Remaking
from fedbus_core.audit.sets import SET_BYTES_MAX


class Verdict(StrEnum):
    """What came of making a round's model again."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The model as it would be without some clients, or by another rule (`rule`), or both.

    Only the round itself is asked: the updates are those that were made from the logged model. Another
    rule remembers what it would from round to round. `digest` is unset when there is no such model;
    `detail` says why.
    """

    digest: str | None
    left_out: tuple[str, ...]
    difference: Difference | None = None
    rule: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RoundReplay:
    """One round made again. `expected` is the digest in the log, `found` the one made here."""

    round: int
    attempt: int
    expected: str
    found: str | None
    verdict: Verdict
    updates: int = 0
    weight: int = 0
    detail: str = ""
    counterfactual: Counterfactual | None = None


@dataclass(slots=True)
class ReplayReport:
    """The result of `replay`. `problem` says why it had to end before the log did; "" if it did not."""

    project: str = ""
    session: str = ""
    rounds: list[RoundReplay] = field(default_factory=list)
    problem: str = ""
    readable: bool = True

    @property
    def ok(self) -> bool:
        """Whether every round of the log was reproduced."""
        return not self.problem and all(one.verdict is Verdict.REPRODUCED for one in self.rounds)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What else is asked of each round: without these clients, by this rule with these parameters."""

    without: frozenset[str] = frozenset()
    aggregator: str | None = None
    parameters: Given = field(default_factory=dict)

    @property
    def is_asked(self) -> bool:
        """Whether anything is asked."""
        return bool(self.without) or self.aggregator is not None

    def rule(self) -> Rule | None:
        """Make the other rule. Raises `ValueError` for parameters that it does not have."""
        if self.aggregator is None:
            return None
        complete = parameters_of(self.aggregator, self.parameters).given
        return RULES[self.aggregator](complete)


def replay(
    reader: Reader,
    *,
    batch_size: int,
    order_seed: int,
    what_if: WhatIf | None = None,
    run: Run | None = None,
    on_round: Callable[[RoundReplay], None] = lambda _: None,
) -> ReplayReport:
    """Make every completed round's model again and compare its SHA-256 with the log.

    Each model made here is the base of the next round, and so is what the rule remembers; models in the
    bundle are used only for the first round and after a round that is impossible. Each round is also
    made as `what_if` asks. `run` runs server functions; with
    None their rounds are impossible. Signatures are not looked at: `verify` does that.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is a whole number from 1, not {batch_size}")
    asked = what_if or WhatIf()
    other = asked.rule()
    report = ReplayReport()
    try:
        bundle = Bundle.open(reader)
    except BundleError as error:
        report.problem, report.readable = str(error), False
        return report
    report.project, report.session = bundle.index.project, bundle.index.session
    again = _Replay(bundle, Remaking(bundle, batch_size, run), order_seed, asked, other)
    try:
        for found in again.rounds():
            report.rounds.append(found)
            on_round(found)
    except (BundleError, Impossible) as error:
        report.problem = str(error)
    return report


@dataclass(slots=True)
class _Replay:
    bundle: Bundle
    remaking: Remaking
    order_seed: int
    what_if: WhatIf
    other: Rule | None
    settings: SessionSettings | None = None
    model: Buffer = b""
    state: bytearray | None = None
    logged_state: BlobRef | None = None
    is_lost: bool = False
    other_state: bytearray | None = None

    def rounds(self) -> Iterator[RoundReplay]:
        """Go through the log and make the model of every completed round."""
        walk = Walk(self.bundle.index.project, self.bundle.index.session)
        for number in range(1, self.bundle.index.entries + 1):
            data = self.bundle.content(log_name(number), size_max=MESSAGE_BYTES_MAX)
            if data is None:
                raise Impossible(f"{log_name(number)} is not in the bundle")
            step = walk.take(number, data)
            if step.problems:
                raise Impossible(f"{log_name(number)}: {step.problems[0][1]}; verify the bundle")
            if step.started is not None:
                self.settings = step.started.settings
                self.model = self.remaking.model(step.started.model)
            for outcome in step.outcomes:
                if isinstance(outcome.event, RoundCompleted):
                    yield self._round(outcome, outcome.event)
                    self.logged_state = outcome.event.state

    def _round(self, outcome: Outcome, event: RoundCompleted) -> RoundReplay:
        assert self.settings is not None, "a log begins with its settings"
        number, attempt = outcome.attempt
        expected = event.model.digest
        rule = rule_of(self.settings)
        try:
            if event.rule != rule.id:
                raise Impossible(
                    f"the round was made by {event.rule!r}, this version has {rule.id}"
                )
            base = self.model or self.remaking.model(outcome.opened.model)
            state = self._known_state()
            before = bytearray(state) if state is not None and self.what_if.is_asked else None
            updates = self._shuffled(number, self._included(event))
            made = self.remaking.make(rule, self.settings, outcome, updates, base, state)
            counterfactual = self._counterfactual(outcome, rule, made, updates, base, before)
        except (Impossible, Unreadable, TensorFileError, ValueError) as error:
            self.model, self.is_lost = b"", True
            verdict, detail = Verdict.IMPOSSIBLE, str(error)
            return RoundReplay(number, attempt, expected, None, verdict, detail=detail)
        self.model, self.state, self.is_lost = made.model, made.state, False
        same_state = _ref(made.state) == event.state
        same = made.ref == event.model and same_state
        if isinstance(rule, FunctionRule) and not same:
            self.model, self.is_lost = b"", True  # its result is an input of what follows
        return RoundReplay(
            number,
            attempt,
            expected,
            made.ref.digest,
            Verdict.REPRODUCED if same else Verdict.DIFFERS,
            updates=len(updates),
            weight=sum(update.weight for update in updates),
            detail="" if same_state else "what the rule remembers is not what the log says",
            counterfactual=counterfactual,
        )

    def _known_state(self) -> bytearray | None:
        """What the rule remembers: made here, or from the bundle after a round that was impossible."""
        if self.is_lost and self.logged_state is not None:
            key = keys.rule_state(self.bundle.index.project, self.logged_state.digest)
            return bytearray(self.remaking.blob(key, self.logged_state))
        return self.state

    def _counterfactual(
        self,
        outcome: Outcome,
        rule: Rule,
        made: Made,
        updates: list[IncludedUpdate],
        base: Buffer,
        before: bytearray | None,
    ) -> Counterfactual | None:
        """Make the round once more, as it is asked."""
        if not self.what_if.is_asked:
            return None
        assert self.settings is not None, "a log begins with its settings"
        rest = [update for update in updates if update.client not in self.what_if.without]
        names = tuple(
            sorted(update.client for update in updates if update.client in self.what_if.without)
        )
        name = self.other.id if self.other is not None else ""
        if not rest:
            return Counterfactual(None, names, rule=name, detail="no update would be left")
        state = before if self.other is None else self.other_state
        asked = self.other or rule
        try:
            found = self.remaking.make(asked, self.settings, outcome, rest, base, state)
        except (Impossible, ValueError) as error:
            return Counterfactual(None, names, rule=name, detail=str(error))
        if self.other is not None:
            self.other_state = found.state
        apart = difference(made.model, found.model)
        return Counterfactual(found.ref.digest, names, apart, rule=name)

    def _shuffled(self, number: int, updates: tuple[IncludedUpdate, ...]) -> list[IncludedUpdate]:
        def rank(update: IncludedUpdate) -> bytes:
            name = f"replay/{self.order_seed}/{number}/{update.client}"
            return hashlib.sha256(name.encode()).digest()

        return sorted(updates, key=rank)

    def _included(self, event: RoundCompleted) -> tuple[IncludedUpdate, ...]:
        key = keys.included_set(self.bundle.index.project, event.included.digest)
        if event.included.size > SET_BYTES_MAX:
            raise Impossible(f"{key} is over {SET_BYTES_MAX} bytes")
        return read(IncludedSet, self.remaking.blob(key, event.included)).updates


def _ref(state: bytearray | None) -> BlobRef | None:
    return None if state is None else BlobRef(digest=digest(state), size=len(state))
