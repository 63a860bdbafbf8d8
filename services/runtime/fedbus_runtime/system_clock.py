"""The real clock."""

import asyncio
import time
from datetime import UTC, datetime


class SystemClock:
    """`ports.Clock` of this machine."""

    def now(self) -> datetime:
        """Give the time in UTC."""
        return datetime.fromtimestamp(time.time(), UTC)

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
