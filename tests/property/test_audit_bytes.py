"""Whatever the bytes, verify and replay say what is wrong with them and never raise."""

import json
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from tests import audit_worlds as worlds

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@cache
def members() -> dict[str, bytes]:
    return worlds.three_rounds().members()


@cache
def whole() -> bytes:
    return worlds.three_rounds().bundle()


def judge(data: bytes) -> bool:
    """Verify and replay; neither may raise. Gives whether both found all well."""
    report = worlds.verify(data)
    assert all(finding.place and finding.meaning for finding in report.findings)
    replayed = worlds.replay(data)
    return report.ok and replayed.ok


@given(data=st.binary(max_size=4096))
def test_arbitrary_bytes_are_no_bundle(data: bytes) -> None:
    assert not judge(data)
    assert not judge(whole()[:512] + data)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_spliced_bundle_is_found(data: st.DataObject) -> None:
    source = whole()
    start = data.draw(st.integers(0, len(source)))
    end = data.draw(st.integers(start, min(len(source), start + 2048)))
    piece = data.draw(st.binary(max_size=600))
    spliced = source[:start] + piece + source[end:]
    assert judge(spliced) == (spliced == source)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_content_under_right_checksums_is_judged(data: st.DataObject) -> None:
    changed = dict(members())
    for name in data.draw(st.lists(st.sampled_from(sorted(changed)), min_size=1, max_size=3)):
        changed[name] = data.draw(
            st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
        )
    judge(worlds.pack(changed))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_in_the_log_is_judged(data: st.DataObject) -> None:
    """Values of other types and sizes inside events, sets and updates, with all hashes as they were."""
    changed = dict(members())
    named = [name for name in sorted(changed) if name.endswith(".json") or "/sets/" in name]
    name = data.draw(st.sampled_from(named))
    document = json.loads(changed[name])
    place = document
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(JSON | st.integers(-(2**70), 2**70))
            break
        place = place[key]
    changed[name] = json.dumps(document).encode()
    judge(worlds.pack(changed))


LATE = "updates/00000003/00000002/0000000000000027-caaaaaaaaaaaaaaaa.json"
"""Stored after the cut-off: nothing in the log names it, so nothing misses it."""


@settings(max_examples=60, deadline=None)
@given(names=st.sets(st.sampled_from(sorted(members().keys() - {LATE})), min_size=1))
def test_any_members_taken_out_are_missed(names: set[str]) -> None:
    left = {name: data for name, data in members().items() if name not in names}
    assert not judge(worlds.pack(left))
