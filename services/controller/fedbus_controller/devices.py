"""Signs the devices' tokens for the bus, and has those of revoked devices refused.

The right to do so lies with the controllers, which no outsider reaches: the api only asks for a token of a
device that it has entered, and a device asks for its own next one. Revocations are what DEVICES says; the
account's token is brought in line whenever a device's record changes, and at every start.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from fedbus_runtime import bus_claims
from fedbus_runtime.bus_claims import BadClaims, BusKey
from fedbus_runtime.errors import Away, BusRefused, SettingsFault
from fedbus_runtime.ports import Accounts, Clock, Request, Streams, Wire
from fedbus_runtime.settings import read_secret
from fedbus_schemas import subjects
from fedbus_schemas.asks import RENEW, Answer
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.devices import DeviceRecord, Minted
from fedbus_schemas.ids import DeviceKey, ProjectId, PublicKey
from fedbus_schemas.nkeys import BadKey, Kind
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import DEVICES

QUEUE = "controllers"
RETRY_WAIT_S = 0.5
KEPT_AFTER = timedelta(days=1)
"""A revocation leaves the account's token so long after every token of the device has ended."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKeys:
    """What the folder of `FEDBUS_DEVICES__KEYS` holds: the operator's key, the clients' signing key."""

    operator: BusKey
    scope: BusKey
    account: str
    system_seed: str
    system_token: str

    @classmethod
    def load(cls, folder: Path) -> "DeviceKeys":
        """Read the files. Raises `SettingsFault`."""
        try:
            return cls(
                operator=BusKey.read(Kind.OPERATOR, read_secret(folder / "operator.nk")),
                scope=BusKey.read(Kind.ACCOUNT, read_secret(folder / "client.scope.nk")),
                account=read_secret(folder / "edge.account"),
                system_seed=read_secret(folder / "sys.user.nk"),
                system_token=read_secret(folder / "sys.user.jwt"),
            )
        except BadKey as error:
            raise SettingsFault(f"FEDBUS_DEVICES__KEYS: a key in {folder}: {error}") from error


class Devices:
    """Answers for devices' tokens, and keeps the account's revocations."""

    def __init__(
        self,
        *,
        streams: Streams,
        wire: Wire,
        clock: Clock,
        accounts: Accounts,
        keys: DeviceKeys,
        lifetime: timedelta,
        trust: tuple[PublicKey, ...],
    ) -> None:
        self._streams = streams
        self._wire = wire
        self._clock = clock
        self._accounts = accounts
        self._keys = keys
        self._lifetime = lifetime
        self._trust = trust

    async def serve(self) -> None:
        """Answer the api and the devices until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            renewals = subjects.ask("*", "*", RENEW)
            tasks.create_task(self._wire.serve(subjects.ALL_MINTS, QUEUE, self.on_mint))
            tasks.create_task(self._wire.serve(renewals, QUEUE, self.on_renew))

    async def on_mint(self, request: Request) -> bytes:
        """Sign the token of a device that the api has entered."""
        _, project, _, device = request.subject.split(".")
        return (await self._answer(project, device, known=True)).to_bytes()

    async def on_renew(self, request: Request) -> bytes:
        """Sign the next token of the device that asks, as the server attests."""
        _, project, _, device, _ = request.subject.split(".")
        if request.sender != device:
            detail = "the server attests another sender"
            return Answer.refused(RefusalCode.NOT_YOURS, detail).to_bytes()
        return (await self._answer(project, device, known=False)).to_bytes()

    async def _answer(self, project: ProjectId, device: DeviceKey, *, known: bool) -> Answer:
        try:
            found = await self._streams.last(DEVICES, subjects.device(project, device))
            record = read(DeviceRecord, found.data) if found is not None else None
        except (Away, Unreadable) as error:
            return Answer.refused(RefusalCode.RETRY_LATER, str(error))
        if record is None and known:
            return Answer.refused(RefusalCode.CLIENT_UNKNOWN, f"device {device} has not enrolled")
        if record is not None and record.revoked is not None:
            return Answer.refused(RefusalCode.DEVICE_REVOKED, f"since {record.revoked:%Y-%m-%d}")
        now = self._clock.now()
        expires = now + self._lifetime
        token = bus_claims.sign_user(
            self._keys.scope,
            self._keys.account,
            device,
            name=record.name if record is not None else "",
            project=project,
            issued=now,
            expires=expires,
        )
        _log.info("device.token", project=project, device=device, expires=expires.isoformat())
        lifetime_s = int(self._lifetime.total_seconds())
        return Answer(
            minted=Minted(
                token=token,
                lifetime_s=lifetime_s,
                expires=expires,
                project=project,
                trust=self._trust,
            )
        )

    async def follow(self) -> None:
        """Bring the account in line at the start, at each change, and when the bus is back."""
        changed = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(changed))
            tasks.create_task(self._return(changed))
            changed.set()
            while True:
                await changed.wait()
                changed.clear()
                try:
                    await self.settle()
                except Away as away:
                    _log.warning("devices.unsettled", error=str(away))
                    await self._clock.sleep(RETRY_WAIT_S)
                    changed.set()

    async def settle(self) -> None:
        """Have the bus refuse exactly the revoked devices. Raises `Away`."""
        wanted = await self._revoked()
        try:
            account = bus_claims.read(await self._accounts.token(self._keys.account))
        except BadClaims as error:
            raise BusRefused(f"the account's token: {error}") from error
        if bus_claims.revocations(account) == wanted:
            return
        # The servers keep the newest by the second: two changes within one must not look alike.
        issued = max(self._clock.now().timestamp(), float(account["iat"]) + 1)
        moment = datetime.fromtimestamp(issued, self._clock.now().tzinfo)
        token = bus_claims.with_revocations(account, self._keys.operator, wanted, moment)
        await self._accounts.replace(token)
        _log.info("devices.settled", revoked=len(wanted))

    async def _revoked(self) -> dict[DeviceKey, datetime]:
        since = self._clock.now() - self._lifetime - KEPT_AFTER
        found: dict[DeviceKey, datetime] = {}
        for message in await self._streams.latest(DEVICES, [subjects.device("*")]):
            with suppress(Unreadable):
                record = read(DeviceRecord, message.data)
                if record.revoked is not None and record.revoked > since:
                    found[record.device] = record.revoked.replace(microsecond=0)
        return found

    async def _hear(self, changed: asyncio.Event) -> None:
        async for _ in self._wire.listen(subjects.live_device()):
            changed.set()

    async def _return(self, changed: asyncio.Event) -> None:
        while True:
            await self._wire.returned()
            changed.set()
