"""Reports as text for people and as JSON for programs."""

import dataclasses
import json
from collections.abc import Iterator

from fedbus_core.audit.findings import Level, Report
from fedbus_core.audit.replay import ReplayReport, RoundReplay, Verdict

ORIGIN = "given from outside: what is signed comes from whoever holds one of them"
NO_ORIGIN = (
    "those inside the bundle: this proves that the bundle is consistent, NOT where it comes from;\n"
    "          whoever forges one can put keys of their own in it. Get the keys elsewhere: --trust FILE"
)


def report_text(report: Report, name: str) -> Iterator[str]:
    """Say what was checked, each finding with its place and meaning, and the verdict."""
    totals = report.totals
    if report.session:
        yield f"Bundle    {name}: {totals.bytes:,} bytes, {totals.members} members"
        yield f"Session   {report.project}/{report.session}: {report.phase or 'cannot be told'}"
        yield f"Log       {totals.entries} entries, signed up to entry {totals.signed_entries}"
        yield f"Signed    {totals.heads} heads, {totals.signatures} valid signatures in all"
        yield f"Rounds    {totals.rounds} completed, {totals.counted} updates counted"
        yield f"Stored    {totals.updates} updates of ended attempts"
        yield f"Blobs     {totals.blobs} there, {totals.models} of them models; {totals.pruned} pruned"
        yield f"Keys      {ORIGIN if report.origin else NO_ORIGIN}"
        yield ""
    for finding in report.findings:
        yield f"{finding.level.upper():5} {finding.code} at {finding.place}"
        yield f"      {finding.detail}"
        yield f"      {finding.meaning}"
    if report.findings:
        yield ""
    notes = sum(finding.level is Level.NOTE for finding in report.findings)
    extra = f"; {notes} notes" if notes else ""
    if not report.readable:
        yield f"{name} is not a bundle"
    elif report.ok:
        yield f"OK: everything that was checked is as it must be{extra}"
    else:
        yield f"FAILED: {len(report.errors)} errors{extra}"


def report_json(report: Report) -> str:
    """Give the whole report as JSON."""
    document = {"ok": report.ok, **dataclasses.asdict(report)}
    document["findings"] = [
        {**dataclasses.asdict(finding), "meaning": finding.meaning} for finding in report.findings
    ]
    return json.dumps(document, indent=2)


def round_text(one: RoundReplay) -> Iterator[str]:
    """Say what came of making one round's model again."""
    head = f"round {one.round} attempt {one.attempt}: "
    if one.verdict is Verdict.IMPOSSIBLE:
        yield f"{head}impossible: {one.detail}"
        yield f"    in the log  {one.expected}"
        return
    made = f"{one.updates} updates, weight {one.weight}"
    if one.verdict is Verdict.REPRODUCED:
        yield f"{head}reproduced from {made}"
        yield f"    {one.found}"
    else:
        yield f"{head}DIFFERS, made from {made}"
        yield f"    in the log  {one.expected}"
        yield f"    made here   {one.found}"
    other = one.counterfactual
    if other is None:
        return
    asked = [f"by {other.rule}"] if other.rule else []
    asked += ["without " + ", ".join(other.left_out)] if other.left_out else []
    if not asked:
        yield "    without     the same: the client was not counted in this round"
    elif other.digest is None or other.difference is None:
        yield f"    {' '.join(asked)}: {other.detail}"
    else:
        yield f"    {' '.join(asked)}: {other.digest}"
        most = other.difference
        yield f"    largest difference {most.largest:.6g}, in tensor {most.tensor!r}"


def replay_text(report: ReplayReport, name: str) -> Iterator[str]:
    """Give the verdict on all rounds."""
    if not report.readable:
        yield f"{name} is not a bundle: {report.problem}"
    elif report.problem:
        yield f"FAILED: {report.problem}"
    elif report.ok:
        yield f"OK: {len(report.rounds)} rounds reproduced, bit for bit"
    else:
        bad = sum(one.verdict is not Verdict.REPRODUCED for one in report.rounds)
        yield f"FAILED: {bad} of {len(report.rounds)} rounds were not reproduced"


def replay_json(report: ReplayReport) -> str:
    """Give the whole report as JSON."""
    return json.dumps({"ok": report.ok, **dataclasses.asdict(report)}, indent=2)
