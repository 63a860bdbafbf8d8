"""Why a round went as it did: who was asked and who not, whose update counted, where the time went. Pure.

The log does not list who was left out, and need not: the draw is a function of the seed, so a client
that would have been drawn and was not asked cannot have been among those to draw from.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedbus_schemas.events import ClosingReason, FinishTimings, RefusedUpdate
from fedbus_schemas.explain_views import ClientExplanation, PhaseView, Standing
from fedbus_schemas.ids import ClientId, Scalar
from fedbus_schemas.refusals import MEANING, RefusalCode
from fedbus_schemas.selection import mismatch
from fedbus_schemas.sessions import COHORT_SIZE_MAX, SessionSettings

from fedbus_core.rounds.cohort import rank


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFacts:
    """An attempt, as the log tells it. `…_asked` is when the input was stored that led to the entry.

    `stored` are the clients with a stored update, as far as they are still kept; not, when `pruned`.
    """

    settings: SessionSettings
    number: int
    attempt: int
    cohort: tuple[ClientId, ...]
    target: int
    minimum: int
    opened: datetime
    closed_by: ClosingReason | None
    closing_asked: datetime | None
    closing: datetime | None
    ended_asked: datetime | None
    ended: datetime | None
    has_model: bool
    counted: Collection[ClientId]
    refused: Sequence[RefusedUpdate]
    timings: FinishTimings
    stored: Collection[ClientId]
    pruned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownClient:
    """A client of the project; its attributes are those at the time of the opening."""

    client: ClientId
    name: str
    since: datetime
    attributes: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Turned:
    """A request of a client for this round that was refused at once; the code may be a newer version's."""

    code: str
    meaning: str
    detail: str


def explain(
    facts: AttemptFacts,
    known: Sequence[KnownClient],
    turned: Mapping[ClientId, Turned],
    arrived_s: Mapping[ClientId, float],
) -> list[ClientExplanation]:
    """Explain each client's part: those asked first, in the cohort's order, then the others.

    `turned` is what was refused them last for this round, `arrived_s` when their update was stored, in
    seconds after the opening; both as far as known.
    """
    names = {one.client: one.name for one in known}
    asked = frozenset(facts.cohort)
    refused = {one.client: one for one in facts.refused}
    found = []
    for client in facts.cohort:
        standing, why, code = _asked(facts, client, refused.get(client), turned.get(client))
        found.append(
            ClientExplanation(
                client=client,
                name=names.get(client, ""),
                standing=standing,
                why=why,
                code=code,
                stored_s=arrived_s.get(client),
            )
        )
    last = _last_rank(facts)
    for one in known:
        if one.client not in asked:
            standing, why = _not_asked(facts, one, last)
            found.append(
                ClientExplanation(client=one.client, name=one.name, standing=standing, why=why)
            )
    return found


def _asked(
    facts: AttemptFacts, client: ClientId, refused: RefusedUpdate | None, turned: Turned | None
) -> tuple[Standing, str, str | None]:
    if client in facts.counted:
        return Standing.COUNTED, "its update is in the model", None
    if refused is not None:
        declined = refused.code is RefusalCode.DECLINED
        standing = Standing.DECLINED if declined else Standing.REFUSED
        detail = f" ({refused.detail})" if refused.detail else ""
        return standing, f"{MEANING[refused.code]}{detail}", refused.code
    if facts.ended is None:
        if client in facts.stored:
            return Standing.STORED, "its update is stored, and the round is not over", None
        return Standing.ASKED, _because("nothing came from it yet", turned), _code(turned)
    if client in facts.stored and not facts.has_model:
        return Standing.GIVEN_UP, "its update came, and the attempt ended without a model", None
    if client in facts.stored:
        return Standing.LATE, f"its update came after the cut-off, {_closed(facts)}", None
    if turned is not None and turned.code == RefusalCode.ROUND_CLOSED:
        return Standing.LATE, "its update came when the round was over", turned.code
    if facts.pruned:
        why = "its update came late or never: what was stored is deleted by rule"
        return Standing.MISSING, _because(why, turned), _code(turned)
    return Standing.MISSING, _because("no update came from it", turned), _code(turned)


def _not_asked(facts: AttemptFacts, known: KnownClient, last: bytes | None) -> tuple[Standing, str]:
    if known.since > facts.opened:
        return Standing.NOT_JOINED, "it joined the project when the round was open already"
    query = facts.settings.clients
    if query is not None:
        why = mismatch(query, known.client, known.name, known.attributes)
        if why is not None:
            return Standing.NOT_MEANT, f"the session does not mean it: {why}"
    own = rank(facts.settings.seed, facts.number, facts.attempt, known.client)
    if last is not None and own > last:
        why = (
            f"{len(facts.cohort)} are invited, and the draw by the session's seed put others first"
        )
        return Standing.NOT_DRAWN, why
    return Standing.NOT_ONLINE, "it was not online when the round opened"


def _last_rank(facts: AttemptFacts) -> bytes | None:
    """Give the rank of the last one drawn; none when everybody who could be asked was."""
    if len(facts.cohort) < (facts.settings.invited or COHORT_SIZE_MAX):
        return None
    seed = facts.settings.seed
    return max(rank(seed, facts.number, facts.attempt, client) for client in facts.cohort)


def summary(facts: AttemptFacts) -> str:
    """Say in one sentence how the attempt stands or ended."""
    place = f"round {facts.number}, attempt {facts.attempt}"
    asked = f"{len(facts.cohort)} asked, target {facts.target}, minimum {facts.minimum}"
    if facts.ended is None:
        return f"{place} is open: {asked}, {len(facts.stored)} stored"
    counted = f"{len(facts.counted)} counted, {len(facts.refused)} refused"
    if facts.has_model:
        return f"{place} made a model: {asked}, {counted}; {_closed(facts)}"
    return f"{place} made no model: {asked}, {counted}; {_closed(facts)}"


def phases(facts: AttemptFacts, arrived_s: Mapping[ClientId, float]) -> list[PhaseView]:
    """Lay the attempt's time out, one phase after the other, from its opening to its end.

    Phases that are not known, as of an attempt that no result ended, are left out.
    """
    return [one for one in _phases(facts, arrived_s) if one.seconds > 0]


def _phases(facts: AttemptFacts, arrived_s: Mapping[ClientId, float]) -> Iterator[PhaseView]:
    asked = _since(facts, facts.closing_asked)
    came = sorted((at, client) for client, at in arrived_s.items() if asked is None or at <= asked)
    if came:
        first, last = came[0], came[-1]
        yield _phase("first update", 0.0, first[0], f"{first[1]} was first")
        yield _phase("other updates", first[0], last[0], f"{last[1]} was last")
    if asked is None:
        return
    yield _phase("waiting", came[-1][0] if came else 0.0, asked, _closed(facts))
    closing = _since(facts, facts.closing)
    if closing is None:
        return
    yield _phase("closing", asked, closing, "the controller decides on the cut-off")
    result, ended = _since(facts, facts.ended_asked), _since(facts, facts.ended)
    if result is None or ended is None:
        return
    timings = facts.timings
    worked = timings.read_s + timings.fold_s + timings.store_s
    yield _phase(
        "queue", closing, result - worked, "the combiner takes the work, checks it, answers"
    )
    yield PhaseView(name="read", seconds=timings.read_s, why="updates and partial sums are read")
    yield PhaseView(
        name="fold", seconds=timings.fold_s, why="they are summed and the model is made"
    )
    yield PhaseView(name="store", seconds=timings.store_s, why="model and included set are stored")
    yield _phase("commit", result, ended, "the controller decides on the result")


def _phase(name: str, start_s: float, end_s: float, why: str) -> PhaseView:
    return PhaseView(name=name, seconds=max(0.0, end_s - start_s), why=why)


def _closed(facts: AttemptFacts) -> str:
    if facts.closed_by is ClosingReason.TARGET:
        return f"the target of {facts.target} was reached"
    if facts.closed_by is ClosingReason.DEADLINE:
        return "the deadline had come"
    return "it ended before a cut-off"


def _since(facts: AttemptFacts, moment: datetime | None) -> float | None:
    return None if moment is None else (moment - facts.opened).total_seconds()


def _because(why: str, turned: Turned | None) -> str:
    if turned is None:
        return why
    detail = f" ({turned.detail})" if turned.detail else ""
    return f"{why}; what it asked last was refused: {turned.meaning}{detail}"


def _code(turned: Turned | None) -> str | None:
    return turned.code if turned is not None else None
