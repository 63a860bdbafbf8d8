"""The quality of the link, from heartbeats."""

from fedbus._quality import LinkWatch
from fedbus_schemas.records import LinkQuality

HEALTHY, DEGRADED, OFFLINE = LinkQuality.HEALTHY, LinkQuality.DEGRADED, LinkQuality.OFFLINE


def test_the_first_answer_decides() -> None:
    for round_trip_ms, quality in ((20.0, HEALTHY), (1400.0, HEALTHY), (1600.0, DEGRADED)):
        watch = LinkWatch()
        assert watch.quality is OFFLINE
        assert watch.round_trip_ms is None
        watch.answered(round_trip_ms)
        assert watch.quality is quality


def test_slow_medians_three_times_and_fast_ones_five_times() -> None:
    watch = LinkWatch()
    for _ in range(10):
        watch.answered(20.0)
    said = []
    for _ in range(8):
        watch.answered(2000.0)
        said.append(watch.quality)
    # The median of ten is slow from the sixth slow one on; that three times in a row.
    assert said == [HEALTHY] * 7 + [DEGRADED]
    said = []
    for _ in range(10):
        watch.answered(20.0)
        said.append(watch.quality)
    assert said.index(HEALTHY) == 9  # fast medians from the sixth fast one on, five times
    assert watch.round_trip_ms == 20.0


def test_one_slow_answer_changes_nothing() -> None:
    watch = LinkWatch()
    for _ in range(5):
        watch.answered(20.0)
    watch.answered(60_000.0)
    assert watch.quality is HEALTHY


def test_without_answers_it_is_offline() -> None:
    watch = LinkWatch()
    watch.answered(20.0)
    watch.lost()
    watch.lost()
    assert watch.quality is HEALTHY
    watch.answered(20.0)
    for _ in range(3):
        watch.lost()
    assert watch.quality is OFFLINE
    watch.answered(20.0)
    assert watch.quality is HEALTHY
    watch.offline()
    assert watch.quality is OFFLINE
