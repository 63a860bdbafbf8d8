"""True sessions verify; what is missing, added or moved is named."""

import dataclasses
from collections.abc import Callable

import pytest
from fedbus_core.audit.bundle import AbsentBlob, update_name
from fedbus_core.audit.chain import SIGNED
from fedbus_core.audit.findings import FINDINGS_MAX, Code, Level, Report
from fedbus_core.rounds import effects
from fedbus_schemas import keys

from tests import audit_worlds as worlds
from tests.audit_worlds import CLIENTS, PROJECT, World, codes

WORLDS = [
    worlds.three_rounds,
    worlds.one_round,
    worlds.one_update,
    worlds.still_open,
    worlds.paused,
    worlds.stopped,
]


@pytest.mark.parametrize("make", WORLDS)
def test_a_true_session_verifies(make: Callable[[], World]) -> None:
    report = worlds.verify(make().bundle())
    assert report.ok, report.findings
    assert report.origin


def test_a_head_is_asked_for_where_a_controller_signs_one() -> None:
    assert set(SIGNED) == set(effects._HEAD_EVENTS)


def test_totals_tell_what_was_looked_at() -> None:
    totals = worlds.verify(worlds.three_rounds().bundle()).totals
    assert (totals.entries, totals.signed_entries, totals.heads) == (11, 11, 4)
    assert (totals.rounds, totals.counted, totals.updates) == (3, 6, 9)
    assert totals.signatures == totals.heads + totals.counted
    assert (totals.models, totals.blobs, totals.pruned) == (4, 9, 0)


def test_verify_folds_what_the_controller_folds() -> None:
    world = worlds.three_rounds()
    state = worlds.folds(world.log)
    expected = f"{state.phase}, {state.completed} rounds completed"
    assert worlds.verify(world.bundle()).phase == expected


def test_without_trust_the_bundle_speaks_only_for_itself() -> None:
    report = worlds.verify(worlds.one_round().bundle(), trust=None)
    assert report.ok
    assert not report.origin
    assert worlds.verify(worlds.one_round().bundle(), trust=[]).errors


def test_an_unsigned_tail_of_an_open_session_is_a_note() -> None:
    report = worlds.verify(worlds.paused().bundle())
    assert codes(report, Level.NOTE) == {Code.UNSIGNED_TAIL}


def test_only_the_last_end_of_an_open_session_may_wait_for_its_signature() -> None:
    world = worlds.still_open()
    last, first = max(world.heads), min(world.heads)
    del world.heads[last]
    report = worlds.verify(world.bundle())
    assert report.ok
    assert codes(report, Level.NOTE) == {Code.UNSIGNED_TAIL}
    del world.heads[first]
    assert codes(worlds.verify(world.bundle())) == {Code.HEAD_MISSING}


def test_an_ended_session_without_its_last_head_fails() -> None:
    world = worlds.three_rounds()
    del world.heads[max(world.heads)]
    assert codes(worlds.verify(world.bundle())) == {Code.HEAD_MISSING, Code.UNSIGNED_TAIL}


def test_a_missing_head_in_the_middle_is_named() -> None:
    world = worlds.three_rounds()
    number = sorted(world.heads)[1]
    del world.heads[number]
    report = worlds.verify(world.bundle())
    assert codes(report) == {Code.HEAD_MISSING}
    assert f"entry {number}" in report.errors[0].place


def test_a_truncated_log_is_told_by_its_heads() -> None:
    world = worlds.three_rounds()
    world.log.pop()
    assert Code.TRUNCATED in codes(worlds.verify(world.bundle()))


def test_an_older_signed_state_is_not_told_from_a_whole_one() -> None:
    """The limit that docs/audit.md states: for this a witness outside is needed."""
    world = worlds.still_open()
    cut = world.copy(log=world.log[:3], heads={3: world.heads[3]})
    cut.updates = {name: data for name, data in world.updates.items() if name < "updates/00000002"}
    strays = {one.place.removeprefix("blobs/") for one in worlds.verify(cut.bundle()).errors}
    cut.blobs = {key: data for key, data in world.blobs.items() if key not in strays}
    report = worlds.verify(cut.bundle())
    assert report.ok
    assert not report.findings


def test_an_entry_cut_out_is_named() -> None:
    world = worlds.three_rounds()
    members = world.members()
    del members["log/00000004.json"]
    report = worlds.verify(worlds.pack(members))
    assert {Code.ENTRY_MISSING, Code.CHAIN} <= codes(report)
    assert any(finding.place == "log/00000004.json" for finding in report.errors)
    del world.log[3]  # and with the others moved up
    report = worlds.verify(world.bundle())
    assert {Code.CHAIN, Code.HEAD_MISMATCH, Code.TRUNCATED} <= codes(report)


def test_swapped_entries_are_named() -> None:
    world = worlds.three_rounds()
    world.log[4], world.log[5] = world.log[5], world.log[4]
    report = worlds.verify(world.bundle())
    assert Code.CHAIN in codes(report)
    assert "log/00000005.json" in report.errors[0].place


def test_an_unknown_event_stops_loudly() -> None:
    world = worlds.three_rounds()
    world.log[5] = world.log[5].replace(b"round.closing.v1", b"round.closing.v9")
    report = worlds.verify(world.bundle())
    assert Code.EVENT_UNKNOWN in codes(report)
    unknown = next(one for one in report.errors if one.code is Code.EVENT_UNKNOWN)
    assert "log/00000006.json" in unknown.place
    assert "newer version" in unknown.meaning


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_an_unreadable_entry_is_named(data: bytes) -> None:
    world = worlds.three_rounds()
    world.log[5] = data
    report = worlds.verify(world.bundle())
    assert {Code.ENTRY_UNREADABLE, Code.CHAIN} <= codes(report)


def test_pruned_blobs_are_notes_and_missing_ones_errors() -> None:
    world = worlds.three_rounds()
    key = next(key for key in world.blobs if "/updates/" in key)
    size = len(world.blobs.pop(key))
    assert codes(worlds.verify(world.bundle())) == {Code.BLOB_MISSING}
    world.absent = [AbsentBlob(key=key, size=size, why="missing")]
    assert codes(worlds.verify(world.bundle())) == {Code.BLOB_MISSING}
    world.absent = [AbsentBlob(key=key, size=size, why="pruned")]
    report = worlds.verify(world.bundle())
    assert report.ok
    assert codes(report, Level.NOTE) == {Code.BLOB_PRUNED}
    assert report.totals.pruned == 1


def test_models_may_be_left_out_with_the_flag_only() -> None:
    bundle = worlds.three_rounds().without_models().bundle()
    assert codes(worlds.verify(bundle)) == {Code.MODEL_REMOVED}
    report = worlds.verify(bundle, removed=True)
    assert report.ok
    assert len(report.findings) == 3


def test_the_first_model_may_not_be_left_out() -> None:
    world = worlds.three_rounds()
    digest = world.events(1)[0]["data"]["model"]["digest"]
    key = keys.model(PROJECT, digest)
    world.absent = [AbsentBlob(key=key, size=len(world.blobs.pop(key)), why="left_out")]
    assert codes(worlds.verify(world.bundle(), removed=True)) == {Code.BLOB_MISSING}


def test_what_the_log_does_not_name_is_a_stray() -> None:
    world = worlds.one_round()
    world.blobs[keys.model(PROJECT, worlds.digest(b"more"))] = b"more"
    world.updates[update_name(7, 1, 99, CLIENTS[0])] = b"{}"
    world.absent = [AbsentBlob(key="default/sets/none", size=1, why="pruned")]
    report = worlds.verify(world.bundle())
    assert codes(report) == {Code.STRAY}
    assert len(report.findings) == 3


def test_the_list_of_findings_has_an_end() -> None:
    report = Report(origin=True)
    for number in range(2 * FINDINGS_MAX):
        report.add(Code.CHAIN, f"entry {number}", "x" * 10_000)
    assert len(report.findings) == FINDINGS_MAX + 1
    assert report.findings[-1].code is Code.MORE
    assert len(report.findings[0].detail) == 500
    assert not dataclasses.replace(report, readable=False).ok
