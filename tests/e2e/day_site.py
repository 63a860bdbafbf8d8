"""A client process in a simulated day: `python -m tests.e2e.day_site CREDENTIALS STATE_DIR FIRST MINUTES LINK`.

Its clock says the minute of the day that it logs; nothing else about it is simulated. It logs MINUTES minutes
from FIRST on (a metric, telemetry, each hour an alert), says each minute that is kept, and lives until it is
killed. With the LINK `online` it connects when it has logged them, else it takes part meanwhile and its bus is
not there.
"""

import sys
import time
from datetime import UTC, datetime

MIDNIGHT_S = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
MINUTE_S = 60.0
HOUR_MINUTES = 60
RECORDS_MAX = 2_000
NOWHERE = ("nats://127.0.0.1:9",)

minute = 0
if __name__ == "__main__":  # before anything takes the clock
    minute = int(sys.argv[3])
    time.time = lambda: MIDNIGHT_S + minute * MINUTE_S

import asyncio  # noqa: E402
from pathlib import Path  # noqa: E402

import fedbus  # noqa: E402
from fedbus_schemas.credentials import Credentials  # noqa: E402


def log_minutes(client: fedbus.Client, first: int, count: int) -> None:
    """Log some minutes of the day."""
    global minute
    for minute in range(first, first + count):
        client.log_metric({"minute": minute}, step=minute)
        client.log_telemetry("minute", minute)
        if minute % HOUR_MINUTES == 0:
            client.log_event(f"hour {minute // HOUR_MINUTES}", "warning", priority="alert")
        print(minute, flush=True)


async def live(file: str, state: str, first: int, count: int, *, online: bool) -> None:
    """Take part until killed."""
    credentials = Credentials.model_validate_json(Path(file).read_bytes())
    if not online:
        credentials = credentials.model_copy(update={"servers": NOWHERE})
    options = fedbus.Options(
        credentials=credentials, state_dir=state, outbox_records_max=RECORDS_MAX
    )
    client = fedbus.Client(fedbus.Trainer(lambda model, settings: (model, 1, {})), options)
    async with asyncio.TaskGroup() as group:
        logging = group.create_task(asyncio.to_thread(log_minutes, client, first, count))
        if online:
            await logging  # the day is over when the link comes back
        group.create_task(client.run())


if __name__ == "__main__":
    asyncio.run(
        live(
            sys.argv[1],
            sys.argv[2],
            int(sys.argv[3]),
            int(sys.argv[4]),
            online=sys.argv[5] == "online",
        )
    )
