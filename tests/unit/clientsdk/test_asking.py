"""How long the client waits before it asks again."""

import asyncio

import fedbus
import pytest
from fedbus._asking import PAUSE_MAX_S, Asker
from fedbus_schemas.asks import Answer, Noted
from fedbus_schemas.refusals import Refusal, RefusalCode


class Busy:
    """Turns away so often, with a hint or without."""

    def __init__(self, times: int, after_s: float | None) -> None:
        self.left = times
        self.after_s = after_s

    async def ask(
        self, verb: str, content: bytes, trace_id: str = "", timeout_s: float | None = None
    ) -> Answer:
        if self.left == 0:
            return Answer(noted=Noted())
        self.left -= 1
        code = RefusalCode.RETRY_LATER
        return Answer(refusal=Refusal(code=code, retry_after_s=self.after_s))


async def slept(monkeypatch: pytest.MonkeyPatch, times: int, after_s: float | None) -> list[float]:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    options = fedbus.Options(credentials="unused", backoff_min_s=0.1, backoff_max_s=4)
    answer = await Asker(Busy(times, after_s), options).insist("grant", b"{}")  # type: ignore[arg-type]  # asks only
    assert answer.noted is not None
    return pauses


async def test_waits_about_as_long_as_the_servers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = await slept(monkeypatch, 50, 2.0)
    assert all(1.0 <= pause <= 3.0 for pause in pauses)
    assert max(pauses) - min(pauses) > 0.5, "those who were told the same do not come together"


async def test_waits_no_longer_than_its_options_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(await slept(monkeypatch, 50, 1e6)) <= 6.0


async def test_without_a_hint_the_pauses_double(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = await slept(monkeypatch, 8, None)
    assert pauses[0] <= 0.1
    assert 1.0 <= pauses[-1] <= PAUSE_MAX_S
