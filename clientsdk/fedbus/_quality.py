"""How good the link to the bus is, from the round trips of heartbeats."""

from collections import deque
from statistics import median

from fedbus_schemas.records import LinkQuality

ROUND_TRIPS_KEPT = 10
DEGRADED_OVER_MS = 1500.0
DEGRADED_AFTER = 3
"""So many medians in a row over `DEGRADED_OVER_MS` make the link degraded."""
HEALTHY_UNDER_MS = 500.0
HEALTHY_AFTER = 5
"""So many medians in a row under `HEALTHY_UNDER_MS` make it healthy again."""
OFFLINE_AFTER = 3
"""So many heartbeats in a row without an answer, and nobody is there."""


class LinkWatch:
    """Watches one link. It is offline until the first answer."""

    def __init__(self) -> None:
        self.quality = LinkQuality.OFFLINE
        self._round_trips: deque[float] = deque(maxlen=ROUND_TRIPS_KEPT)
        self._slow = self._fast = self._lost = 0

    @property
    def round_trip_ms(self) -> float | None:
        """The median of the last round trips."""
        return median(self._round_trips) if self._round_trips else None

    def answered(self, round_trip_ms: float) -> None:
        """A heartbeat was answered."""
        self._lost = 0
        self._round_trips.append(round_trip_ms)
        middle = median(self._round_trips)
        self._slow = self._slow + 1 if middle > DEGRADED_OVER_MS else 0
        self._fast = self._fast + 1 if middle < HEALTHY_UNDER_MS else 0
        if self.quality is LinkQuality.OFFLINE:
            slow = round_trip_ms > DEGRADED_OVER_MS
            self.quality = LinkQuality.DEGRADED if slow else LinkQuality.HEALTHY
        elif self._slow >= DEGRADED_AFTER:
            self.quality = LinkQuality.DEGRADED
        elif self._fast >= HEALTHY_AFTER:
            self.quality = LinkQuality.HEALTHY

    def lost(self) -> None:
        """A heartbeat had no answer."""
        self._lost += 1
        if self._lost >= OFFLINE_AFTER:
            self.offline()

    def offline(self) -> None:
        """The connection is gone."""
        self.quality = LinkQuality.OFFLINE
        self._round_trips.clear()
        self._slow = self._fast = self._lost = 0
