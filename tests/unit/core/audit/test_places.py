"""The rarer findings: limits, members that say something else than their name, models that do not fit."""

import json
from typing import Any

import numpy as np
import pytest
from fedbus_core.aggregation import tensorfile
from fedbus_core.audit import bundle as bundles
from fedbus_core.audit import replay, ustar, verify
from fedbus_core.audit.bundle import BundleError, Index, update_name
from fedbus_core.audit.findings import Code
from fedbus_schemas import keys

from tests import audit_worlds as worlds
from tests.audit_worlds import CLIENTS, CONTROLLER, PROJECT, SESSION, World, codes


def test_a_stored_update_of_another_attempt_or_stranger_is_told() -> None:
    world = worlds.three_rounds()
    world.updates[update_name(1, 1, 10, "c" + "z" * 16)] = next(iter(world.updates.values()))
    assert codes(worlds.verify(world.bundle())) == {Code.STRAY, Code.MANIFEST_MISMATCH}


def test_an_index_that_counts_wrong_is_told() -> None:
    world = worlds.one_round()
    index = Index(project=PROJECT, session=SESSION, entries=9, trust=world.trust)
    report = worlds.verify(worlds.pack({**world.members(), "index.json": index.to_bytes()}))
    assert codes(report) == {Code.ENTRY_MISSING}
    replayed = worlds.replay(worlds.pack({**world.members(), "index.json": index.to_bytes()}))
    assert "log/00000004.json is not in the bundle" in replayed.problem


def test_limits_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    data = worlds.three_rounds().bundle()
    monkeypatch.setattr(verify, "MESSAGE_BYTES_MAX", 1_000)
    assert {Code.ENTRY_UNREADABLE, Code.CHAIN} <= codes(worlds.verify(data))
    monkeypatch.setattr(replay, "SET_BYTES_MAX", 10)
    assert "is over 10 bytes" in worlds.replay(data).rounds[0].detail
    monkeypatch.setattr(bundles, "MEMBERS_MAX", 5)
    assert "over 5 members" in worlds.verify(data).findings[0].detail
    monkeypatch.undo()
    monkeypatch.setattr(bundles, "INDEX_BYTES_MAX", 5)
    assert "over 5 bytes" in worlds.verify(data).findings[0].detail


def with_model(world: World, model: bytes, **changes: Any) -> World:
    """Start the session from other bytes, described as the first model was but for the changes."""
    first = world.events(1)[0]["data"]["model"]
    del world.blobs[keys.model(PROJECT, first["digest"])]
    world.blobs[keys.model(PROJECT, worlds.digest(model))] = model
    ref = {**first, "digest": worlds.digest(model), "size": len(model), **changes}

    def change(entry: dict[str, Any]) -> None:
        for event in entry["events"]:
            event["data"]["model"] = ref

    return worlds.rechain(world, 1, change, signer=CONTROLLER)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (b"no tensor file", "header"),
        (tensorfile.write({"v": np.zeros(3, np.float32)}), "its layout is"),
        (tensorfile.write({"v": np.full(70_000, np.nan, np.float32)}), "NaN"),
    ],
)
def test_a_first_model_that_is_not_what_the_log_says(model: bytes, said: str) -> None:
    report = worlds.verify(with_model(worlds.one_round(), model).bundle())
    found = [finding for finding in report.errors if finding.code is Code.MODEL_MISMATCH]
    assert len(found) == 1
    assert said in found[0].detail


def test_one_model_is_described_in_one_way() -> None:
    """The same bytes come out again as a later model, under another description."""
    world = worlds.one_round()
    first = world.events(1)[0]["data"]["model"]

    def change(entry: dict[str, Any]) -> None:
        entry["events"][0]["data"]["model"] = {**first, "exponents": [1, 1, 1]}

    number = world.entries_with("round.completed.v1")[0]
    report = worlds.verify(worlds.rechain(world, number, change, signer=CONTROLLER).bundle())
    assert Code.MODEL_MISMATCH in codes(report)


def test_a_counted_update_that_a_combiner_refuses_stops_the_replay() -> None:
    """Nothing but the log says that a bad update is good: the base of the grid is another model."""
    model = tensorfile.write({"v": np.zeros(3, np.float32)})
    world = with_model(worlds.one_round(), model)
    found = worlds.replay(world.bundle()).rounds[0]
    assert f"client {CLIENTS[0]}: tensor" in found.detail


def test_an_update_in_a_message_is_hashed() -> None:
    world = worlds.three_rounds()
    name = next(iter(world.updates))
    document = json.loads(world.updates[name])
    document["inline"] = "AAAA"
    world.updates[name] = json.dumps(document).encode()
    assert "is another one" in worlds.replay(world.bundle()).rounds[0].detail
    del world.updates[name]
    assert "is not in the bundle" in worlds.replay(world.bundle()).rounds[0].detail


def test_a_file_that_shrinks_while_it_is_read_is_a_finding() -> None:
    class Shrinking(worlds.Memory):
        def read_at(self, offset: int, length: int) -> bytes:
            header = length == ustar.BLOCK or length <= 2 * ustar.BLOCK
            return super().read_at(offset, length) if header else b""

    reader = Shrinking(worlds.three_rounds().bundle())
    report = verify.verify(reader, None, worlds.check_signature)
    assert codes(report) == {Code.FORM}
    assert "ends too early" in report.findings[0].detail


def test_headers_in_another_form_are_refused() -> None:
    header = ustar.header("index.json", 5)
    for at, said in ((0, "ASCII"), (110, "byte 110"), (124, "not a member"), (511, "byte 511")):
        changed = bytearray(header)
        changed[at] ^= 0xFF
        with pytest.raises(ValueError, match=said):
            ustar.read_header(bytes(changed))


def test_members_out_of_order_are_refused() -> None:
    def member(name: str) -> bytes:
        return ustar.header(name, 0)

    twice = member("log/00000002.json") + member("log/00000001.json")
    with pytest.raises(BundleError, match=r"may not follow log/00000002.json"):
        worlds.opened(worlds.Memory(twice))
    no_index = member("log/00000001.json") + member("SHA256SUMS") + ustar.END
    with pytest.raises(BundleError, match="may not follow"):
        worlds.opened(worlds.Memory(no_index))


def test_checksums_have_one_line_for_each_member() -> None:
    members = worlds.one_round().members()
    whole = worlds.pack(members)
    at = whole.index(b"SHA256SUMS")
    sums = whole[at + 512 : whole.index(b"\0", at + 512)] + b"0" * 64 + b"  more\n"
    data = whole[:at] + ustar.header("SHA256SUMS", len(sums)) + sums
    report = worlds.verify(data + bytes(ustar.padding(len(sums))) + ustar.END)
    assert codes(report) == {Code.CHECKSUM}
    assert "SHA256SUMS" in report.errors[0].place
