"""A client on a gateway, for a simulated day: `python -m tests.e2e.offline_site CREDENTIALS STATE FROM TO`.

Logs what a gateway does in the minutes FROM to TO of the day, on a clock of its own that begins a day ago, and
says each number of a record once it is logged. Then it waits until everything is sent; offline, for ever.
"""

import sys
import time

credentials, state, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

DAY_S = 86_400.0
_now = time.time
_begin_s = float(sys.argv[5])
simulated_s = first * 60.0
time.time = lambda: _begin_s + simulated_s

import asyncio  # noqa: E402

import fedbus  # noqa: E402


def live(client: fedbus.Client) -> None:
    """Log a gateway's day: on average one record each five seconds."""
    global simulated_s  # the clock
    logged = 0
    for minute in range(first, last):
        for part in range(6):
            simulated_s = 60.0 * minute + 10.0 * part
            client.log_telemetry("load", {"minute": minute, "part": part})
            client.log_metric({"temperature": 20.0 + part}, step=6 * minute + part)
        if minute % 10 == 0:
            client.log_inference_result("image", {"minute": minute})
        if minute % 60 == 0:
            client.log_event(f"minute {minute}")
        if minute % 120 == 0:
            client.log_attributes({"minute": minute})
        if minute % 90 == 0:
            client.log_event(f"alert {minute}", "error", priority="alert")
        logged = minute
        print(logged, flush=True)


async def main() -> None:
    options = fedbus.Options(credentials=credentials, state_dir=state, backoff_max_s=0.5)
    client = fedbus.Client(fedbus.Trainer(lambda model, _: (model, 1, {})), options)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(client.run())
        await asyncio.to_thread(live, client)
        while client.backlog().total:
            await asyncio.sleep(0.05)
        print(f"sent {client.backlog().dropped}", flush=True)
        client.stop()
        await running


asyncio.run(main())
