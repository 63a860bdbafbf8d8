"""The client, and `run`, which is all that most programs need."""

import asyncio
import logging
import signal
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from pathlib import Path

from fedbus_schemas.credentials import Credentials
from fedbus_schemas.records import LinkQuality

from fedbus import _threads
from fedbus._asking import Line
from fedbus._blobs import Store
from fedbus._context import Place
from fedbus._keys import Keys
from fedbus._outbox import Outbox
from fedbus._participation import Participation
from fedbus._quality import LinkWatch
from fedbus._renewal import Renewal
from fedbus._reporting import Desk, Reporting
from fedbus._transport import Bus
from fedbus.consent.guard import guard_of
from fedbus.consent.policy import Loggable
from fedbus.credentials import load, tls_of
from fedbus.errors import BadOption, FedbusError
from fedbus.options import Options
from fedbus.recorder import Recorder
from fedbus.trainer import Packages, Trainer, TrainFunction, ValidateFunction

log = logging.getLogger("fedbus")


def run(
    *,
    train: TrainFunction,
    validate: ValidateFunction | None = None,
    credentials: str | Path | Credentials,
    state_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    alive_file: str | Path | None = None,
    policy: str | Path | None = None,
) -> None:
    """Take part in a federation until Ctrl-C or SIGTERM, then return.

    `train(model, settings)` gets the model as a dict of arrays and returns `(model, number of
    examples, metrics)`. `validate(model, settings)` returns `(number of examples, metrics)`. For what
    they are given see `Settings`. Both run in a thread of their own, one call at a time.

    With `state_dir`, a finished update survives a restart and is sent again instead of trained again.
    With `cache_dir`, fetched models do. `alive_file` is touched at every heartbeat. `policy` is the data
    owner's file, which decides on every task first. For more, see `Options` and `Client`.

    ```python
    import fedbus


    def train(model, settings):
        model["w"] -= settings.get("lr", 0.1)
        return model, 100, {"loss": 0.5}


    def main():
        fedbus.run(train=train, credentials="client.json")
    ```

    Raises `BadCredentials`, `BadPolicy` or `BadOption` before it starts, and `Refused` or `NotPermitted`
    when the servers will not have this client.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise BadOption("an event loop runs here already; say: await fedbus.Client(...).run()")
    options = Options(
        credentials=credentials,
        state_dir=state_dir,
        cache_dir=cache_dir,
        alive_file=alive_file,
        policy=policy,
    )
    run_until_signal(Client(Trainer(train, validate), options))


def run_until_signal(
    client: "Client",
    around: AbstractAsyncContextManager[None] | None = None,
    level: str = "info",
) -> None:
    """Run a client until Ctrl-C or SIGTERM, then return; `around` lasts as long. Raises as `run` does."""
    _show_log(level)
    with suppress(KeyboardInterrupt):  # where there are no signal handlers
        asyncio.run(_run_until_signal(client, around or nullcontext()))


class _Stop(Exception):
    """The client was asked to stop."""


class Client(Recorder):
    """One client of a federation. `run()` it; it needs nothing else. What it logs, `Recorder` says.

    ```python
    import asyncio

    from fedbus import Client, Options, Trainer


    def train(model, settings):
        return model, 10, {"loss": 0.5}


    async def main():
        client = Client(Trainer(train), Options(credentials="client.json", state_dir="state"))
        await client.run()  # until client.stop()
    ```
    """

    def __init__(
        self,
        trainer: Trainer | Packages,
        options: Options,
        *,
        line: Line | None = None,
        store: Store | None = None,
    ) -> None:
        """Check the credentials. `line` and `store` replace NATS and the object store, for tests."""
        place = Place()
        super().__init__(place)
        given = options.credentials
        self._credentials = given if isinstance(given, Credentials) else load(given)
        self._trainer = trainer
        self._options = options
        self._keys = Keys(self._credentials)
        self._line: Line = line or Bus(
            project=self._credentials.project,
            name=self._credentials.name,
            servers=self._credentials.servers,
            tls=tls_of(self._credentials),
            keys=self._keys,
            options=options,
        )
        file = None if isinstance(given, Credentials) else Path(given)
        self._renewal = Renewal(self._credentials, self._keys, self._line, file)
        self._guard = guard_of(options, self._keys.device)
        self._store = store
        self._task_place = place
        self._watch = LinkWatch()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._failure: FedbusError | None = None

    async def run(self) -> None:
        """Take part until `stop()`. Survives the loss of every server, for as long as it takes.

        Raises `Refused` (`ClientUnknown`, `KeyChanged`) or `NotPermitted` when the servers will not
        have this client; then waiting would not help.
        """
        if self._loop is not None:
            raise RuntimeError("a client runs once; make a new one")
        self._loop = asyncio.get_running_loop()
        reporting = Reporting(await _threads.run(self._outbox, "fedbus-state"), self._watch)
        self._news = reporting.wake
        try:
            await self._take_part(reporting)
        finally:
            reporting.close()
        if self._failure is not None:
            raise self._failure
        log.info("stopped")

    def stop(self) -> None:
        """End `run()` soon, from any thread. A function that runs is told, not waited for."""
        if self._loop is None:
            self._stopping.set()
            return
        with suppress(RuntimeError):  # the loop is closed: it has stopped already
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _take_part(self, reporting: Reporting) -> None:
        participation = Participation(
            self._trainer,
            self._options,
            self._credentials,
            self._keys,
            self._line,
            self._fail,
            self._guard,
            Desk(self, self._task_place, reporting),
            self._store,
        )
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._renewal.run())
                await participation.begin(group)
                try:
                    await self._stopping.wait()
                finally:  # stopped or cancelled: what is cancelled now begins nothing new
                    renewing.cancel()
                    participation.end()
                if self._failure is None:
                    await participation.leave()
                raise _Stop
        except* _Stop:
            pass
        finally:
            participation.end()

    @property
    def link_quality(self) -> LinkQuality:
        """How good the link to the bus is now: healthy, degraded or offline."""
        return self._watch.quality

    def _outbox(self) -> Outbox:
        """Give the outbox, opened when it is first asked for. Raises `BadOption`."""
        with self._recording:
            if self._box is None:
                folder = self._options.state_dir
                self._box = Outbox(
                    None if folder is None else Path(folder) / self._keys.device / "outbox.db",
                    self._options.outbox_records_max,
                    self._options.outbox_bytes_max,
                )
            return self._box

    def _may_leave(self, what: Loggable, key: str) -> bool:
        return self._guard.may_leave(what, key)

    def _fail(self, error: FedbusError) -> None:
        self._failure = error
        self._stopping.set()


async def _run_until_signal(client: Client, around: AbstractAsyncContextManager[None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not in a thread, and not on every system: then Ctrl-C is a KeyboardInterrupt as usual.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, client.stop)
    async with around:
        await client.run()


def _show_log(level: str) -> None:
    """Print the log readably, unless the program has set up logging itself."""
    if log.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(level.upper())
