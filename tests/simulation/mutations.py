"""Planted bugs: each changes production code in a simulation's process, and the simulation must find it.

A mutation names the scenarios that provoke it first. Every one is a bug that somebody could write: the
compare-and-set forgotten, an ack too early, an effect before the decision is stored.
"""

import sys
from collections.abc import Mapping
from typing import Any

from fedbus_combiner.finish import Finishing
from fedbus_combiner.ingest import Ingest, _check_inline
from fedbus_combiner.summing import Summing
from fedbus_combiner.tally import Tallies
from fedbus_combiner.updates import Updates
from fedbus_controller.handlers import Handlers
from fedbus_controller.mailing import Mailing
from fedbus_controller.perform import Performer
from fedbus_core.rounds import decide as decisions
from fedbus_core.rounds.effects import AskFinish
from fedbus_runtime.consumer import _Loop
from fedbus_runtime.errors import AlreadyStored, Away
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.memory_records import MemoryRoundRecords
from fedbus_runtime.memory_streams import MemoryStreams
from fedbus_runtime.ports import RoundKey, Tally
from fedbus_schemas import subjects
from fedbus_schemas.asks import Answer, Stored
from fedbus_schemas.inputs import DeadlineFired
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.updates import Manifest, StoredUpdate, Submission
from fedbus_schemas.work import FinishItem

from tests.simulation.mutation import Mutation

# The log.


def _append_without_compare(original: Any) -> Any:
    """FoldedLog.append, with the expected sequence left out."""

    async def append(self: Any, project: str, session: str, data: bytes, expected: int) -> Any:
        slot = self._slot(project, session)
        async with slot.lock:
            sequence = await self._streams.append(subjects.event(project, session), data)
            slot.state = self._fold(slot.state, data, sequence)
            return slot.state

    return append


def _effects_first(original: Any) -> Any:
    """Handlers: ask for the finish before the closing is in the log."""

    async def append(self: Any, project: str, session: str, data: bytes, expected: int) -> Any:
        import copy

        from fedbus_core.rounds.effects import everything

        slot = self._slot(project, session)
        if slot.state is not None:
            ahead = self._fold(copy.deepcopy(slot.state), data, expected + 1)
            for effect in everything(ahead):
                if isinstance(effect, AskFinish):
                    subject = subjects.work(project, session, "finish")
                    await self._streams.append(
                        subject, effect.item.to_bytes(), message_id=effect.work_id
                    )
        return await original(self, project, session, data, expected)

    return append


def _causes_forgotten(original: Any) -> Any:
    """decide: an input that was decided before is decided again."""

    def decide(state: Any, given: Any, facts: Any) -> Any:
        if state is not None:
            state.causes.clear()
        return original(state, given, facts)

    return decide


def _deadline_ignored(original: Any) -> Any:
    def decide(state: Any, given: Any, facts: Any) -> Any:
        if state is not None and isinstance(given, DeadlineFired):
            return decisions._nothing(RefusalCode.NOT_POSSIBLE_NOW, "ignored")
        return original(state, given, facts)

    return decide


def _step_unchecked(original: Any) -> Any:
    """decide: the result of any step of the attempt is taken."""

    def finished(state: Any, opened: Any, given: Any, facts: Any) -> Any:
        if opened.closing is not None:
            given = given.model_copy(update={"step": opened.step})
        return original(state, opened, given, facts)

    return finished


def _any_attempt(original: Any) -> Any:
    """decide: a result, notice or deadline of another attempt is taken for the open one."""

    def is_attempt(self: Any, number: int, attempt: int) -> bool:
        return True

    return is_attempt


def _minimum_ignored(original: Any) -> Any:
    def finished(state: Any, opened: Any, given: Any, facts: Any) -> Any:
        if given.counted and opened.closing is not None:
            return decisions.Decision(decisions._completed(state, opened, given, facts))
        return original(state, opened, given, facts)

    return finished


# Deliveries.


def _ack_first(original: Any) -> Any:
    """The consumer acknowledges a message before it handles it."""

    async def settle(self: Any, delivery: Any) -> None:
        try:
            await delivery.ack()
            await self._outcome(delivery)
        except Away:
            return

    return settle


def _schedules_covered(original: Any) -> Any:
    """The performer never asks for the deadline."""

    async def keep(self: Any, state: Any, effect: Any) -> None:
        return

    return keep


def _notice_unrepeated(original: Any) -> Any:
    """The tally acknowledges an update although no controller answered its notice."""

    async def notify(self: Any, key: Any) -> None:
        try:
            await original(self, key)
        except Away:
            return

    return notify


def _notice_acked_early(original: Any) -> Any:
    """The controller says yes to a notice before the closing is in the log."""

    async def on_notice(self: Any, request: Any) -> bytes:
        from fedbus_runtime.errors import RuntimeFault

        from tests.simulation.loop import running

        async def later() -> None:
            try:
                await original(self, request)
            except RuntimeFault:
                return

        running().create_task(later())
        return b"{}"

    return on_notice


# The effects.


def _stale_mail(original: Any) -> Any:
    """The performer does not look again after it wrote."""

    async def perform_all(self: Any, state: Any, wanted: Any) -> None:
        for effect in wanted:
            await self._perform(state, effect)

    return perform_all


def _mail_from_cache(original: Any) -> Any:
    """The performer makes mail from the state as of the entry, not from the newest."""

    async def send(self: Any, state: Any) -> None:
        import copy

        old = self.__dict__.setdefault("_old", {})
        kept = old.get(state.session)
        old[state.session] = copy.deepcopy(state)
        await original(self, kept if kept is not None else state)

    return send


def _no_head(original: Any) -> Any:
    async def sign(self: Any, state: Any, effect: Any) -> None:
        return

    return sign


# Updates and sums.


def _stored_before_store(original: Any) -> Any:
    """Ingest answers `stored`, then stores."""

    async def store(self: Any, subject: str, submission: Submission, manifest: Manifest) -> Answer:
        from tests.simulation.loop import running

        refusal = _check_inline(submission, manifest)
        if refusal is not None:
            return Answer(refusal=refusal)
        stored = StoredUpdate.model_construct(**dict(submission))

        async def later() -> None:
            try:
                await self._streams.append(subject, stored.to_bytes())
            except (Away, AlreadyStored):
                return

        expected = self._streams._inner._server.taking(subject).last_sequence + 1
        running().create_task(later())
        return Answer(
            stored=Stored(
                session=manifest.session,
                round=manifest.round,
                attempt=manifest.attempt,
                sequence=expected,
                update=manifest.update.digest,
            )
        )

    return store


def _duplicate_accepted(original: Any) -> Any:
    """UPDATES keeps the last update of a client, not the first."""

    async def append(self: Any, subject: str, data: bytes, **options: Any) -> int:
        if ".upd." in subject:
            kept = self._server.taking(subject)
            if kept.newest(subject):
                self._server.demand()
                return int(self._server.store(kept, subject, data, {}).sequence)
        return int(await original(self, subject, data, **options))

    return append


def _equivocation_unseen(original: Any) -> Any:
    """A second update is answered `stored` whatever is in it."""

    async def stored_before(self: Any, subject: str, manifest: Manifest) -> Answer | None:
        answer = await original(self, subject, manifest)
        if answer is None or answer.stored is not None:
            return answer  # type: ignore[no-any-return]
        return Answer(
            stored=Stored(
                session=manifest.session,
                round=manifest.round,
                attempt=manifest.attempt,
                sequence=1,
                update=manifest.update.digest,
            )
        )

    return stored_before


def _cutoff_ignored(original: Any) -> Any:
    """The finish takes whatever is stored by now."""

    async def up_to(self: Any, key: Any, cohort: Any, cutoff: int) -> Any:
        return await original(self, key, cohort, 2**62)

    return up_to


def _set_ignored(original: Any) -> Any:
    """The model is made from the set, the blob names another one."""

    def included(item: FinishItem, counted: list[Any]) -> Any:
        return original(item, counted[:-1] if len(counted) > 1 else counted)

    return included


def _partials_overlap(original: Any) -> Any:
    """The finish merges every partial, also those that hold the same clients."""

    async def take(self: Any, round_: Any, total: Any, partials: Any) -> None:
        for partial in partials:
            if await self._merge(round_, total, partial):
                round_.counted.update(partial.clients)
                round_.refused.update((one.client, one) for one in partial.refused)

    return take


def _partials_of_any_round(original: Any) -> Any:
    """Redis gives the partials of every attempt of the session."""

    async def partials(self: Any, key: RoundKey) -> Any:
        found = []
        for other, attempt in self._redis.demand().attempts.items():
            if other.session == key.session:
                found += [attempt.partials[digest] for digest in sorted(attempt.partials)]
        return found

    return partials


def _merged_from_anywhere(original: Any) -> Any:
    """The finish takes a partial's bytes wherever in the session they lie."""

    async def merge(self: Any, round_: Any, total: Any, partial: Any) -> bool:
        prefix = f"{round_.key.project}/partials/{round_.key.session}/"
        for key in await self._blobs.list(prefix):
            if key.endswith(partial.blob.digest):
                total.merge(await self._blobs.get(key, partial.blob.size))
                return True
        return False

    return merge


def _partials_kept(original: Any) -> Any:
    async def forget(self: Any, state: Any, number: int) -> None:
        return

    return forget


def _never_forgotten(original: Any) -> Any:
    async def forget(self: Any, key: RoundKey) -> None:
        return

    return forget


def _refused_counted(original: Any) -> Any:
    """The checks of an update's content are left out of the result: it is counted as well."""

    async def fold(self: Any, total: Any, key: Any, candidates: Any) -> Any:
        folded = await original(self, total, key, candidates)
        bad = {one.client for one in folded.refused}
        folded.counted += [one for one in candidates if one.client in bad]
        folded.refused.clear()
        return folded

    return fold


def _incremented(original: Any) -> Any:
    """Redis counts with INCR: what comes twice counts twice."""

    async def count(self: Any, key: RoundKey, updates: Mapping[str, int], batch_size: int) -> Tally:
        tally = await original(self, key, updates, batch_size)
        extra = self._redis.__dict__.setdefault("_extra", {})
        extra[key] = extra.get(key, 0) + len(updates)
        return Tally(extra[key], tally.batches)

    return count


def _finish_once(original: Any) -> Any:
    """A blob is announced before it is stored: the result goes out, the put is left for later."""

    async def result(self: Any, round_: Any, folded: Any, started: float, new: Any) -> Any:
        puts: list[Any] = []

        class Later:
            def __init__(self, blobs: Any) -> None:
                self._blobs = blobs

            def __getattr__(self, name: str) -> Any:
                return getattr(self._blobs, name)

            async def put(self, key: str, parts: Any) -> None:
                puts.append((key, parts))

        blobs, self._blobs = self._blobs, Later(self._blobs)
        try:
            made = await original(self, round_, folded, started, new)
        finally:
            self._blobs = blobs
        from tests.simulation.loop import running

        async def later() -> None:
            for key, parts in puts:
                try:
                    await blobs.put(key, parts)
                except Away:
                    return

        running().create_task(later())
        return made

    return result


_HANDLERS = sys.modules["fedbus_controller.handlers"]
_FINISH = sys.modules["fedbus_combiner.finish"]

MUTATIONS = (
    Mutation(
        "no_compare_and_set",
        "the log takes an append whatever was appended meanwhile",
        ("zombies", "network"),
        "follows entry|does not continue the chain",
        {"append": (FoldedLog, _append_without_compare)},
    ),
    Mutation(
        "ack_first",
        "messages are acknowledged before they are handled",
        ("crashes", "store"),
        "there is left|head_missing|closed by its deadline",
        {"_settle": (_Loop, _ack_first)},
    ),
    Mutation(
        "effects_before_append",
        "the finish is asked for before the closing is stored",
        ("zombies", "crashes"),
        "is running closing",
        {"append": (FoldedLog, _effects_first)},
    ),
    Mutation(
        "other_set_in_the_blob",
        "the included-set blob is not the set that the model was made from",
        ("calm",),
        "set_mismatch",
        {"_included_set": (_FINISH, _set_ignored)},
    ),
    Mutation(
        "duplicate_accepted",
        "UPDATES keeps a second update of a client for the same attempt",
        ("liars", "network"),
        "stored more than once",
        {"append": (MemoryStreams, _duplicate_accepted)},
    ),
    Mutation(
        "equivocation_unseen",
        "a second, other update is answered `stored`",
        ("liars",),
        "another update is|told stored",
        {"_stored_before": (Ingest, _equivocation_unseen)},
    ),
    Mutation(
        "deadline_ignored",
        "a deadline that fires decides nothing",
        ("clients", "deadlines"),
        "is running collecting",
        {"decide": (_HANDLERS, _deadline_ignored)},
    ),
    Mutation(
        "deadline_not_kept",
        "no deadline is ever scheduled",
        ("clients", "deadlines"),
        "is running collecting",
        {"_keep_deadline": (Performer, _schedules_covered)},
    ),
    Mutation(
        "partials_overlap",
        "partials that hold the same update are both merged",
        ("batches", "redis"),
        "replay|verify",
        {"_take": (Finishing, _partials_overlap)},
    ),
    Mutation(
        "partial_of_another_round",
        "partials of other attempts are merged",
        ("batches",),
        "replay|verify",
        {
            "partials": (MemoryRoundRecords, _partials_of_any_round),
            "_merge": (Finishing, _merged_from_anywhere),
            "_forget_partials": (Performer, _partials_kept),
            "forget": (MemoryRoundRecords, _never_forgotten),
            "_take": (Finishing, _partials_overlap),
        },
    ),
    Mutation(
        "stored_before_the_store",
        "the client is told `stored` before the update is",
        ("crashes", "network"),
        "was told stored, and it is not",
        {"_store": (Ingest, _stored_before_store)},
    ),
    Mutation(
        "cutoff_ignored",
        "the finish counts what came after the cut-off",
        ("deadlines", "clients"),
        "counted",
        {"up_to": (Updates, _cutoff_ignored)},
    ),
    Mutation(
        "incremented",
        "Redis counts deliveries, not updates",
        ("network", "crashes"),
        "Redis counts",
        {"count": (MemoryRoundRecords, _incremented)},
    ),
    Mutation(
        "stale_mail",
        "the performer does not look whether the log moved while it wrote",
        ("zombies", "network"),
        "s-1: mail",
        {"_perform_all": (Performer, _stale_mail)},
    ),
    Mutation(
        "mail_of_the_state_before",
        "mail is made from the state before the entry",
        ("calm",),
        "there is left|mail",
        {"send": (Mailing, _mail_from_cache)},
    ),
    Mutation(
        "step_unchecked",
        "a result of an earlier closing of the attempt is taken",
        ("reopened",),
        "verify|stored .* counted",
        {"_finished": (decisions, _step_unchecked), "decide": (_HANDLERS, _causes_forgotten)},
    ),
    Mutation(
        "notice_answered_early",
        "a controller says yes to a notice before the closing is stored",
        ("crashes", "zombies"),
        "closed by its deadline",
        {"on_notice": (Handlers, _notice_acked_early)},
    ),
    Mutation(
        "notice_not_repeated",
        "an unanswered notice is given up",
        ("crashes", "network"),
        "closed by its deadline",
        {"_notify": (Tallies, _notice_unrepeated)},
    ),
    Mutation(
        "refused_counted",
        "an update that failed its check is counted as well",
        ("liars",),
        "replay|verify",
        {"fold": (Summing, _refused_counted)},
    ),
    Mutation(
        "minimum_ignored",
        "a round completes with fewer valid updates than its minimum",
        ("liars", "deadlines"),
        "the minimum is",
        {"_finished": (decisions, _minimum_ignored)},
    ),
    Mutation(
        "result_before_the_blobs",
        "the result goes out before the model lies in the store",
        ("store", "crashes"),
        "blob_missing",
        {"_result": (Finishing, _finish_once)},
    ),
    Mutation(
        "heads_unsigned",
        "no head of the log is signed",
        ("calm",),
        "head_missing",
        {"_sign_head": (Performer, _no_head)},
    ),
    Mutation(
        "decided_twice",
        "an input that comes again is decided again",
        ("everything", "network"),
        "was decided before|is paused|illegal",
        {"decide": (_HANDLERS, _causes_forgotten)},
    ),
)
