"""What a client tells of its work: in what it asks anyway, and bounded."""

import asyncio
import time

from fedbus import _spans
from fedbus._spans import Spans
from fedbus_schemas.traces import CLIENT_SPANS, CLIENT_SPANS_MAX, ClientSpans, ClientWork


def told(headers: dict[str, str]) -> ClientSpans:
    return ClientSpans.model_validate_json(headers[CLIENT_SPANS])


async def test_work_is_told_with_when_it_began_and_how_long_it_took() -> None:
    spans = Spans("ab" * 16)
    with spans.timed(ClientWork.VALIDATE):
        pass  # too short to be told
    with spans.timed(ClientWork.DOWNLOAD):
        time.sleep(_spans.SHORT_S)
    with spans.timed(ClientWork.TRAIN):
        time.sleep(_spans.SHORT_S)
    spans.send()
    said = told(spans.headers())
    assert [one.name for one in said.spans] == ["download", "train", "upload"]
    assert [one.seconds is None for one in said.spans] == [False, False, True]
    assert said.spans[0].start <= said.spans[1].start <= said.spans[2].start <= said.sent


async def test_the_header_stays_small_however_much_was_done() -> None:
    spans = Spans()
    for _ in range(3 * CLIENT_SPANS_MAX):
        with spans.timed(ClientWork.DOWNLOAD):
            time.sleep(_spans.SHORT_S)
    spans.send()
    assert len(told(spans.headers()).spans) == CLIENT_SPANS_MAX


async def test_only_what_ends_a_piece_of_work_tells_it() -> None:
    assert _spans.headers("submit") == {}
    assert _spans.trace_id() == ""

    async def work() -> None:
        _spans.begin("ab" * 16)
        assert _spans.headers("submit") == {}, "there is nothing to tell yet"
        with _spans.timed(ClientWork.TRAIN):
            time.sleep(_spans.SHORT_S)
        assert told(_spans.headers("submit")).spans[0].name is ClientWork.TRAIN
        assert _spans.headers("beat") == _spans.headers("grant") == {}
        assert _spans.trace_id() == "ab" * 16

    await asyncio.gather(work(), work())
    assert _spans.headers("submit") == {}, "it was another task's"
