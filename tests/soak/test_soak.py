"""The rules of a soak's verdict. The soak itself is `make soak`; the gate runs five minutes of it."""

import pytest

from tests.soak.measures import Sample
from tests.soak.verdict import judge, table


def samples(**series: list[float]) -> list[Sample]:
    names = {"work": "stream WORK (messages)", "log": "stream EVENTS (messages)"}
    names |= {"api": "memory api (MB)", "due": "stream INBOX (messages)", "disk": "disk s3 (MB)"}
    length = len(next(iter(series.values())))
    return [
        Sample(
            12 * (place + 1),
            {names[name]: values[place] for name, values in series.items()},
            {"api": 1},
        )
        for place in range(length)
    ]


@pytest.mark.parametrize(
    ("name", "values", "is_fine"),
    [
        ("work", [5, 3, 0, 0, 0, 0, 0, 0, 0, 0], True),
        ("work", [0, 0, 0, 0, 0, 0, 0, 1, 0, 0], False),
        ("log", [24.0 * place for place in range(10)], True),
        ("log", [1.5**place for place in range(20)], False),
        ("api", [80, 90, 100, 101, 102, 101, 103, 102, 104, 103], True),
        ("api", [80.0 + 8 * place for place in range(20)], False),
        ("due", [3, 2, 4, 1, 2, 3, 4, 2, 1, 3], True),
        ("due", [2.0 * place for place in range(20)], False),
        ("disk", [1.5**place for place in range(20)], True),
    ],
)
def test_tells_growth_from_steadiness(name: str, values: list[float], is_fine: bool) -> None:
    [finding] = judge(samples(**{name: values}))
    assert finding.is_fine is is_fine, table([finding])


def test_a_measure_without_a_rule_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no rule"):
        judge([Sample(place, {"novelty": 1.0}, {}) for place in range(9)])
