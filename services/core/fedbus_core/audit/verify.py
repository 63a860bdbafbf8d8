"""Verifies a bundle: the form of its bytes, the chain, the state machine, signatures, sets and blobs.

Nothing here raises for what a bundle holds: whatever is wrong becomes a finding with its place.
"""

import hashlib
from collections.abc import Collection, Iterator

from fedbus_schemas import keys
from fedbus_schemas.events import RoundCompleted

from fedbus_core.audit.blobs import BlobCheck
from fedbus_core.audit.bundle import (
    MESSAGE_BYTES_MAX,
    SUMS,
    Bundle,
    BundleError,
    Member,
    Reader,
    blob_name,
    log_name,
    sum_line,
)
from fedbus_core.audit.chain import Step, Walk, pruned
from fedbus_core.audit.findings import Code, Report, place
from fedbus_core.audit.heads import CheckSignature, HeadCheck
from fedbus_core.audit.outcomes import OutcomeCheck
from fedbus_core.audit.sets import SetCheck


def verify(
    reader: Reader,
    trust: Collection[str] | None,
    check_signature: CheckSignature,
    *,
    models_removed: bool = False,
) -> Report:
    """Verify a bundle. `trust` holds the controllers' keys; None takes those inside the bundle, which
    proves that it is consistent, not where it comes from. `models_removed` allows derived models to be
    left out.
    """
    report = Report(origin=trust is not None)
    report.totals.bytes = reader.size
    try:
        bundle = Bundle.open(reader)
    except BundleError as error:
        # Without a good first header this is some other file, not a bundle that was changed.
        report.readable = error.offset > 0
        report.add(Code.FORM, f"byte {error.offset}, {error.member}", error.detail)
        return report
    report.project, report.session = bundle.index.project, bundle.index.session
    report.totals.members = len(bundle.members)
    try:
        damaged = _check_sums(bundle, report)
        keys_in = bundle.index.trust if trust is None else trust
        heads = HeadCheck(bundle, keys_in, check_signature, report)
        blobs = BlobCheck(bundle, report, damaged, models_removed)
        sets = SetCheck(bundle, report, blobs, check_signature)
        gone = pruned(_entries(bundle))
        _check_log(bundle, heads, OutcomeCheck(bundle, report, sets, gone), report)
    except BundleError as error:
        report.add(Code.FORM, f"byte {error.offset}, {error.member}", error.detail)
    return report


def _entries(bundle: Bundle) -> Iterator[bytes]:
    for number in bundle.logged:
        data = bundle.content(log_name(number), size_max=MESSAGE_BYTES_MAX)
        if data is not None:
            yield data


def _check_sums(bundle: Bundle, report: Report) -> frozenset[str]:
    """Hash every member and compare with its line and its name; returns the blobs that are not theirs."""
    damaged: set[str] = set()
    sums = bundle.members[SUMS]
    at = 0
    for member in bundle.members.values():
        if member is sums:
            continue
        running = hashlib.sha256()
        for piece in bundle.pieces(member):
            running.update(piece)
        found = running.hexdigest()
        where = f"{member.name}, bytes {member.offset} to {member.offset + member.size}"
        line = sum_line(found, member.name).encode()
        if not _has(bundle, sums, at, line):
            detail = f"its SHA-256 is {found}; line at byte {sums.offset + at} says otherwise"
            report.add(Code.CHECKSUM, where, detail)
        at += len(line)
        if member.name.startswith("blobs/") and not member.name.endswith(found):
            damaged.add(member.name)
            report.add(Code.BLOB_HASH, where, f"its SHA-256 is {found}")
    if at != sums.size:
        report.add(Code.CHECKSUM, f"{SUMS}, byte {sums.offset + at}", "a line too many or too few")
    return frozenset(damaged)


def _has(bundle: Bundle, sums: Member, at: int, line: bytes) -> bool:
    return at + len(line) <= sums.size and bundle.read_at(sums, at, len(line)) == line


def _check_log(bundle: Bundle, heads: HeadCheck, outcomes: OutcomeCheck, report: Report) -> None:
    index = bundle.index
    walk = Walk(index.project, index.session)
    attempts: set[tuple[int, int]] = set()
    last = max(bundle.logged, default=0)
    if index.entries != last:
        detail = f"the index counts {index.entries} entries, the last one is {last}"
        report.add(Code.ENTRY_MISSING, log_name(last), detail)
    expected = 1
    for number in bundle.logged:
        if number != expected:
            report.add(Code.ENTRY_MISSING, log_name(expected), f"none before entry {number}")
            walk.gap()
        expected = number + 1
        data = bundle.content(log_name(number), size_max=MESSAGE_BYTES_MAX)
        if data is None:
            detail = f"it is over {MESSAGE_BYTES_MAX} bytes"
            report.add(Code.ENTRY_UNREADABLE, place(log_name(number), entry=number), detail)
            walk.gap()
            continue
        step = walk.take(number, data)
        for code, detail in step.problems:
            report.add(code, place(log_name(number), entry=number), detail)
        heads.take(number, step.digest, must=step.signed)
        report.totals.entries += 1
        attempts |= {(opened.round, opened.attempt) for opened in step.opened}
        _check_step(step, outcomes)
    state = walk.state
    heads.end(last, is_open=state is None or not state.ended)
    if state is None:
        report.add(Code.ENTRY_MISSING, log_name(1), "no entry could be folded")
        return
    report.phase = f"{state.phase}, {state.completed} rounds completed"
    if not walk.halted:
        _check_strays(bundle, attempts, outcomes.sets.blobs)


def _check_step(step: Step, outcomes: OutcomeCheck) -> None:
    """Check what an entry names and brings to an end; only as far as the state before it is known."""
    blobs = outcomes.sets.blobs
    if step.started is not None:
        outcomes.sets.weight_max = 1 << step.started.settings.numbers.weight_bits
        blobs.model(step.started.model, step.number, derived=False)
        functions = step.started.settings.functions
        if functions is not None:
            key = keys.server_functions(blobs.bundle.index.project, functions.code.digest)
            blobs.take(key, functions.code, place(blob_name(key), entry=step.number))
    for outcome in step.outcomes:
        outcomes.take(outcome)
        if isinstance(outcome.event, RoundCompleted):
            blobs.model(outcome.event.model, step.number, derived=True)
            if outcome.event.state is not None:
                blobs.state(outcome.event.state, step.number)


def _check_strays(bundle: Bundle, attempts: set[tuple[int, int]], blobs: BlobCheck) -> None:
    """Report what the bundle holds and the log does not name; only for a log that folds to its end."""
    for attempt in sorted(set(bundle.attempts) - attempts):
        name = bundle.updates(*attempt)[0].member.name
        detail = "the log opens no such attempt"
        blobs.report.add(Code.STRAY, place(name, attempt=attempt), detail)
    blobs.strays()
