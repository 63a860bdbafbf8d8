"""Forgers: one without the controllers' key, and a controller that lies with its own key."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from fedbus_core.audit.bundle import update_name
from fedbus_core.audit.findings import Code, Report
from fedbus_schemas import keys

from tests import audit_worlds as worlds
from tests.audit_worlds import CLIENTS, CONTROLLER, PROJECT, STRANGER, World, codes

Change = Callable[[dict[str, Any]], None]
A, B, C = CLIENTS


def event(entry: dict[str, Any], type_: str) -> dict[str, Any]:
    data: dict[str, Any] = next(e["data"] for e in entry["events"] if e["type"] == type_)
    return data


def relabel(entry: dict[str, Any]) -> None:
    """A change that nothing else in the bundle contradicts."""
    event(entry, "round.completed.v1")["workers"] = ["combiner-9"]


def completed(world: World, nth: int = 0) -> int:
    return world.entries_with("round.completed.v1")[nth]


def forge(change: Change, number: int | None = None, **options: Any) -> Report:
    world = worlds.three_rounds()
    at = number or completed(world)
    return worlds.verify(worlds.rechain(world, at, change, **options).bundle())


def test_a_forged_event_with_all_hashes_made_anew_contradicts_the_heads() -> None:
    report = forge(relabel)
    assert codes(report) == {Code.HEAD_MISMATCH}
    assert "heads/00000003.json" in report.errors[0].place
    assert len(report.errors) == 4  # every head from there on


def test_a_forger_with_a_new_key_is_refused_by_trust() -> None:
    report = forge(relabel, signer=STRANGER)
    assert codes(report) == {Code.HEAD_UNTRUSTED}
    assert STRANGER.public in report.errors[0].detail


def test_without_trust_a_forger_with_a_new_key_is_consistent_and_the_report_says_so() -> None:
    world = worlds.three_rounds()
    forged = worlds.rechain(world, completed(world), relabel, signer=STRANGER)
    forged.trust = (STRANGER.public,)
    report = worlds.verify(forged.bundle(), trust=None)
    assert report.ok
    assert not report.origin
    assert codes(worlds.verify(forged.bundle())) == {Code.HEAD_UNTRUSTED}


def test_a_trusted_key_under_a_signature_of_another_is_refused() -> None:
    world = worlds.three_rounds()
    number = min(world.heads)
    head = json.loads(worlds.signed_head(number, world.log[number - 1], STRANGER))
    world.heads[number] = json.dumps({**head, "key": CONTROLLER.public}).encode()
    assert codes(worlds.verify(world.bundle())) == {Code.HEAD_SIGNATURE}
    world.heads[number] = b"{}"
    assert codes(worlds.verify(world.bundle())) == {Code.HEAD_MISMATCH}


def test_a_head_of_another_session_is_refused() -> None:
    world = worlds.three_rounds()
    number = min(world.heads)
    head = json.loads(world.heads[number])
    head["head"] = head["head"].replace("s-audit", "s-other")
    world.heads[number] = json.dumps(head).encode()
    report = worlds.verify(world.bundle())
    assert codes(report) == {Code.HEAD_MISMATCH}
    assert "s-other" in report.errors[0].detail


def set_field(type_: str, name: str, value: Any) -> Change:
    def change(entry: dict[str, Any]) -> None:
        event(entry, type_)[name] = value

    return change


def swap_key(entry: dict[str, Any]) -> None:
    event(entry, "round.opened.v1")["cohort"][0]["key"] = STRANGER.public


def other_exponents(entry: dict[str, Any]) -> None:
    event(entry, "round.completed.v1")["model"]["exponents"][0] = 7


# (what a lying controller changes, in the nth entry with that event, what must be found)
LIES = [
    ("round.completed.v1", 0, "counted", [A, B], {Code.SET_MISMATCH, Code.UPDATE_DROPPED}),
    ("round.completed.v1", 0, "weight", 39, {Code.SET_MISMATCH}),
    ("round.completed.v1", 0, "metrics", {"loss": 0.0}, {Code.METRICS_MISMATCH}),
    ("round.completed.v1", 0, "counted", [B, A, C], {Code.SET_MISMATCH, Code.ILLEGAL}),
    ("round.completed.v1", 0, "rule", "best/1", {Code.ILLEGAL}),
    ("round.completed.v1", 0, "step", 2, {Code.ILLEGAL}),
    ("round.completed.v1", 1, "refused", [], {Code.UPDATE_DROPPED}),
    ("round.completed.v1", 2, "refused", [{"client": A, "code": "late"}], {Code.UPDATE_MISSING}),
    ("round.closing.v1", 0, "cutoff", 8, {Code.UPDATE_LATE, Code.UPDATE_MISSING}),
    ("round.closing.v1", 0, "cutoff", 0, {Code.ILLEGAL, Code.UPDATE_LATE}),
    ("round.closing.v1", 2, "step", 1, {Code.ILLEGAL}),
    ("round.closing.v1", 4, "cutoff", 27, {Code.UPDATE_DROPPED}),
    ("round.reopened.v1", 0, "valid", 0, {Code.UPDATE_DROPPED}),
    ("round.reopened.v1", 0, "valid", 3, {Code.ILLEGAL, Code.UPDATE_MISSING}),
    ("round.failed.v1", 0, "refused", [], {Code.UPDATE_DROPPED}),
    ("round.failed.v1", 0, "valid", 1, {Code.ILLEGAL, Code.UPDATE_MISSING}),
    ("round.opened.v1", 0, "minimum", 2, {Code.ILLEGAL}),
    ("round.opened.v1", 0, "target", 1, {Code.ILLEGAL}),
    ("round.opened.v1", 0, "trace_id", "0" * 32, {Code.ILLEGAL}),
    ("round.opened.v1", 1, "attempt", 2, {Code.ILLEGAL}),
    ("session.started.v1", 0, "session", "s-other", {Code.ILLEGAL}),
    ("session.completed.v1", 0, "rounds", 2, {Code.ILLEGAL}),
    ("session.completed.v1", 0, "model", "0" * 64, {Code.ILLEGAL}),
]


@pytest.mark.parametrize(("type_", "nth", "name", "value", "expected"), LIES)
def test_a_lie_that_a_controller_signs_contradicts_what_else_is_there(
    type_: str, nth: int, name: str, value: Any, expected: set[Code]
) -> None:
    number = worlds.three_rounds().entries_with(type_)[nth]
    report = forge(set_field(type_, name, value), number, signer=CONTROLLER)
    assert expected <= codes(report), report.findings
    assert Code.HEAD_MISMATCH not in codes(report)


@pytest.mark.parametrize(
    ("change", "entry", "expected"),
    [
        (swap_key, 1, Code.MANIFEST_SIGNATURE),
        (other_exponents, 3, Code.MODEL_MISMATCH),
        (lambda entry: entry.update(cause="input-1"), 3, Code.ILLEGAL),
        (lambda entry: entry["events"][0].update(id="x"), 3, Code.ILLEGAL),
        (lambda entry: entry.update(session="s-other"), 3, Code.CHAIN),
        (lambda entry: entry.update(number=9), 3, Code.CHAIN),
        (lambda entry: entry["events"].pop(0), 1, Code.ILLEGAL),
        (lambda entry: entry["events"].reverse(), 3, Code.ILLEGAL),
    ],
)
def test_other_lies(change: Change, entry: int, expected: Code) -> None:
    assert expected in codes(forge(change, entry, signer=CONTROLLER))


def with_set(world: World, nth: int, change: Change) -> World:
    """Let the controller put another included set in the place of the true one, and sign for it."""
    number = completed(world, nth)
    included = event(json.loads(world.log[number - 1]), "round.completed.v1")["included"]
    document = json.loads(world.blobs.pop(keys.included_set(PROJECT, included["digest"])))
    change(document)
    data = json.dumps(document, separators=(",", ":")).encode()
    world.blobs[keys.included_set(PROJECT, worlds.digest(data))] = data
    ref = {"digest": worlds.digest(data), "size": len(data)}
    named = set_field("round.completed.v1", "included", ref)
    return worlds.rechain(world, number, named, signer=CONTROLLER)


def other_weight(document: dict[str, Any]) -> None:
    document["updates"][0]["weight"] += 1
    document["updates"][2]["weight"] -= 1


def manifest_of_another_round(document: dict[str, Any]) -> None:
    signed = document["updates"][0]["signed"]
    signed["manifest"] = signed["manifest"].replace('"round":1', '"round":2')


def forged_manifest(document: dict[str, Any]) -> None:
    signed = document["updates"][0]["signed"]
    signed["manifest"] = signed["manifest"].replace('"weight":10', '"weight": 10')


def other_sequence(document: dict[str, Any]) -> None:
    document["updates"][0]["sequence"] += 1


def late_sequence(document: dict[str, Any]) -> None:
    document["updates"][0]["sequence"] = 10_000


def huge_weight(document: dict[str, Any]) -> None:
    document["updates"][0]["weight"] = 2**40


def no_manifest(document: dict[str, Any]) -> None:
    document["updates"][0]["signed"]["manifest"] = "{}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (other_weight, {Code.MANIFEST_MISMATCH}),
        (manifest_of_another_round, {Code.MANIFEST_MISMATCH, Code.MANIFEST_SIGNATURE}),
        (forged_manifest, {Code.MANIFEST_MISMATCH, Code.MANIFEST_SIGNATURE}),
        (other_sequence, {Code.SEQUENCE}),
        (late_sequence, {Code.SEQUENCE, Code.UPDATE_LATE}),
        (huge_weight, {Code.MANIFEST_MISMATCH, Code.SET_MISMATCH}),
        (no_manifest, {Code.MANIFEST_MISMATCH}),
        (lambda d: d["updates"].reverse(), {Code.SET_MISMATCH}),
        (lambda d: d["updates"].pop(), {Code.SET_MISMATCH}),
        (lambda d: d.update(base="0" * 64), {Code.SET_MISMATCH}),
        (lambda d: d.update(round=2), {Code.SET_MISMATCH}),
        (lambda d: d.update(more=1), {Code.SET_MISMATCH}),
        (lambda d: d.pop("updates"), {Code.SET_MISMATCH}),
    ],
)
def test_a_false_included_set_contradicts_what_the_clients_signed(
    change: Change, expected: set[Code]
) -> None:
    report = worlds.verify(with_set(worlds.three_rounds(), 0, change).bundle())
    assert expected <= codes(report), report.findings
    wrong = [finding for finding in report.errors if finding.code in expected]
    assert all("round 1 attempt 1" in finding.place for finding in wrong)


def name_of(world: World, sequence: int) -> str:
    return next(name for name in world.updates if f"{sequence:016d}-" in name)


def test_a_stored_update_that_was_taken_away_is_missed() -> None:
    world = worlds.three_rounds()
    del world.updates[name_of(world, 3)]
    report = worlds.verify(world.bundle())
    assert Code.UPDATE_MISSING in codes(report)
    assert any(A in finding.place for finding in report.errors)


def test_a_stored_update_that_was_moved_contradicts_the_set() -> None:
    world = worlds.three_rounds()
    data = world.updates.pop(name_of(world, 3))
    world.updates[update_name(1, 1, 4, A)] = data
    assert codes(worlds.verify(world.bundle())) == {Code.SEQUENCE}


def test_an_update_stored_before_an_earlier_cut_off_is_out_of_order() -> None:
    world = worlds.three_rounds()
    data = world.updates.pop(name_of(world, 12))
    world.updates[update_name(2, 1, 2, C)] = data
    assert codes(worlds.verify(world.bundle())) == {Code.SEQUENCE}


def test_a_second_update_of_a_client_is_found() -> None:
    world = worlds.three_rounds()
    world.updates[update_name(1, 1, 5, A)] = world.updates[name_of(world, 3)]
    assert Code.SEQUENCE in codes(worlds.verify(world.bundle()))


def test_an_update_kept_from_the_round_is_found() -> None:
    """A refusal that the log does not hold: the update lies there, and nobody says why it does not count."""
    world = worlds.three_rounds()
    number = completed(world)

    def drop(entry: dict[str, Any]) -> None:
        event(entry, "round.completed.v1")["counted"] = [A, B]

    report = worlds.verify(worlds.rechain(world, number, drop, signer=CONTROLLER).bundle())
    dropped = [finding for finding in report.errors if finding.code is Code.UPDATE_DROPPED]
    assert len(dropped) == 1
    assert C in dropped[0].place


def test_another_update_inside_a_message_is_found() -> None:
    world = worlds.three_rounds()
    name = name_of(world, 3)
    document = json.loads(world.updates[name])
    update = bytearray(base64.b64decode(document["inline"]))
    update[-1] ^= 1
    document["inline"] = base64.b64encode(update).decode()
    world.updates[name] = json.dumps(document).encode()
    assert codes(worlds.verify(world.bundle())) == {Code.BLOB_HASH}
    document["inline"] = "?"
    world.updates[name] = json.dumps(document).encode()
    assert codes(worlds.verify(world.bundle())) == {Code.BLOB_MISSING}
    world.updates[name] = b"?"
    assert Code.UPDATE_UNREADABLE in codes(worlds.verify(world.bundle()))


def test_a_blob_under_a_false_name_is_found() -> None:
    world = worlds.three_rounds()
    key = next(key for key in world.blobs if "/updates/" in key)
    world.blobs[key] = world.blobs[key][:-1] + b"\x7f"
    assert codes(worlds.verify(world.bundle())) == {Code.BLOB_HASH}
    world.blobs[key] += b"\0"
    assert codes(worlds.verify(world.bundle())) == {Code.BLOB_HASH}
