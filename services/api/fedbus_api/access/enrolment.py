"""How devices join: join tokens, enrolment, renewal by the key alone, revocation.

A device makes its keys itself and proves that it has the private one. The api enters it and asks the
controllers for its token: what the api cannot sign, somebody who takes the api over cannot either.
Every step can be taken again with the same keys, so a crash between two of them locks nobody out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fedbus_runtime.errors import Conflict, NoAnswer
from fedbus_runtime.ports import Clock, StoredMessage, Streams, Wire
from fedbus_runtime.signing_keys import verify
from fedbus_schemas import nkeys, signing, subjects
from fedbus_schemas.asks import Answer
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.device_views import (
    DeviceView,
    EnrolledView,
    EnrolRequest,
    JoinView,
    MadeJoinView,
    NewJoin,
    RenewRequest,
)
from fedbus_schemas.devices import DeviceRecord, JoinRecord, Mint, Minted
from fedbus_schemas.ids import DeviceKey, ProjectId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import DEVICES

from fedbus_api.access import bearers
from fedbus_api.access.identity import Identity
from fedbus_api.problems import Problem, refused

KIND = "flj"
JOINS_MAX = 1_000
"""Join tokens that a project has at most, those that ended among them."""
APART_MAX = timedelta(minutes=10)
"""How far a device's clock and ours may be apart."""
MINT_WAIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolling:
    """Lets devices in and shows them out. `servers` and `ca` are what they are told of the bus."""

    streams: Streams
    wire: Wire
    clock: Clock
    servers: tuple[str, ...]
    ca: str | None

    async def make_join(self, project: ProjectId, wanted: NewJoin, by: Identity) -> MadeJoinView:
        """Make a join token; its secret is in the answer and nowhere else. Raises `Problem`."""
        if len(await self.streams.subjects(DEVICES, subjects.join(project))) >= JOINS_MAX:
            raise Problem(RefusalCode.TOO_LARGE, f"{JOINS_MAX} join tokens are there (the limit)")
        now = self.clock.now()
        made = bearers.make(KIND)
        record = JoinRecord(
            join=made.id,
            secret=made.kept,
            labels=wanted.labels,
            uses=wanted.uses,
            created=now,
            created_by=by.name,
            expires=now + timedelta(seconds=wanted.lifetime_s),
        )
        await self.streams.append(subjects.join(project, made.id), record.to_bytes(), expected=0)
        return MadeJoinView(**dict(_join_view(record, now)), bearer=made.bearer)

    async def joins(self, project: ProjectId) -> list[JoinView]:
        """Give a project's join tokens."""
        now = self.clock.now()
        found = await self.streams.latest(DEVICES, [subjects.join(project)])
        return [_join_view(read(JoinRecord, one.data), now) for one in found]

    async def revoke_join(self, project: ProjectId, name: str) -> JoinView:
        """End a join token; devices that came with it stay. Raises `Problem`."""

        def end(record: JoinRecord) -> JoinRecord:
            return record.model_copy(update={"revoked": record.revoked or self.clock.now()})

        found = await self.streams.last(DEVICES, subjects.join(project, name))
        if found is None:
            raise Problem(RefusalCode.NOT_FOUND, f"join token {name} in project {project}")
        return _join_view(await self._change(found, end), self.clock.now())

    async def enrol(self, asked: EnrolRequest) -> EnrolledView:
        """Let a device in by its join token. The same device again gets another token. Raises `Problem`."""
        given = bearers.given(KIND, asked.join_token)
        found = None
        if given is not None:
            found = await self.streams.last(DEVICES, subjects.join("*", given.id))
        if given is None or found is None or not given.holds(read(JoinRecord, found.data).secret):
            raise Problem(RefusalCode.JOIN_TOKEN_INVALID, "there is no such join token")
        self._demand_clock(asked.time)
        _demand_proof(asked.device, signing.ENROL, asked.said(), asked.proof)
        project = subjects.token(found.subject, 1)
        await self._demand_not_revoked(project, asked.device)
        record = await self._change(found, lambda one: self._use(one, asked.device))
        await self._enter(project, asked, record)
        return await self._enrolled(project, asked.device)

    async def renew(self, asked: RenewRequest) -> EnrolledView:
        """Give a device that has enrolled its next token, by its key alone. Raises `Problem`."""
        self._demand_clock(asked.time)
        _demand_proof(asked.device, signing.RENEW, asked.said(), asked.proof)
        await self._demand_not_revoked(asked.project, asked.device)
        return await self._enrolled(asked.project, asked.device)

    async def devices(self, project: ProjectId) -> list[DeviceView]:
        """Give a project's devices."""
        found = await self.streams.latest(DEVICES, [subjects.device(project)])
        return [_device_view(read(DeviceRecord, one.data)) for one in found]

    async def revoke(self, project: ProjectId, device: DeviceKey, by: Identity) -> DeviceView:
        """Shut a device out, also one that never enrolled here: its connection is cut at once."""
        subject = subjects.device(project, device)
        while True:
            found = await self.streams.last(DEVICES, subject)
            record = read(DeviceRecord, found.data) if found else DeviceRecord(device=device)
            if record.revoked is not None:
                return _device_view(record)
            ended = {"revoked": self.clock.now(), "revoked_by": by.name}
            record = record.model_copy(update=ended)
            try:
                expected = found.sequence if found else 0
                await self.streams.append(subject, record.to_bytes(), expected=expected)
            except Conflict:
                continue  # somebody else was first: look again
            return _device_view(record)

    async def revoke_label(self, project: ProjectId, label: str, by: Identity) -> list[DeviceView]:
        """Shut out every device with a label."""
        known = [one for one in await self.devices(project) if label in one.labels]
        return [await self.revoke(project, one.device, by) for one in known]

    def _use(self, record: JoinRecord, device: DeviceKey) -> JoinRecord:
        if device in record.devices:
            return record  # it asks again: its first answer was lost
        if record.revoked is not None or record.expires <= self.clock.now():
            raise Problem(RefusalCode.JOIN_TOKEN_INVALID, "this join token has ended")
        if len(record.devices) >= record.uses:
            detail = f"{record.uses} devices have joined with this token: all it was for"
            raise Problem(RefusalCode.JOIN_TOKEN_INVALID, detail)
        return record.model_copy(update={"devices": (*record.devices, device)})

    async def _enter(self, project: ProjectId, asked: EnrolRequest, join: JoinRecord) -> None:
        record = DeviceRecord(
            device=asked.device,
            name=asked.name,
            labels=join.labels,
            join=join.join,
            enrolled=self.clock.now(),
        )
        try:
            subject = subjects.device(project, asked.device)
            await self.streams.append(subject, record.to_bytes(), expected=0)
        except Conflict:
            return  # it is entered already

    async def _enrolled(self, project: ProjectId, device: DeviceKey) -> EnrolledView:
        minted = await self._mint(project, device)
        return EnrolledView(**dict(minted), servers=self.servers, ca=self.ca)

    async def _mint(self, project: ProjectId, device: DeviceKey) -> Minted:
        subject = subjects.mint(project, device)
        try:
            data = await self.wire.request(subject, Mint(device=device).to_bytes(), MINT_WAIT_S)
            answer = read(Answer, data)
        except (NoAnswer, Unreadable) as error:
            detail = "no controller signs tokens now; ask again with the same keys"
            raise Problem(RefusalCode.RETRY_LATER, detail) from error
        if answer.refusal is not None:
            raise refused(answer.refusal)
        if answer.minted is None:
            raise Problem(RefusalCode.RETRY_LATER, "a controller of another version answered")
        return answer.minted

    async def _demand_not_revoked(self, project: ProjectId, device: DeviceKey) -> None:
        found = await self.streams.last(DEVICES, subjects.device(project, device))
        if found is not None and read(DeviceRecord, found.data).revoked is not None:
            raise Problem(RefusalCode.DEVICE_REVOKED, f"device {device} in project {project}")

    def _demand_clock(self, given: datetime) -> None:
        apart = given - self.clock.now()
        if abs(apart) > APART_MAX:
            ahead = "ahead of" if apart > timedelta() else "behind"
            detail = (
                f"the device's clock is {abs(apart).total_seconds() / 60:.0f} minutes {ahead} the "
                f"server's, which says {self.clock.now():%Y-%m-%d %H:%M} UTC; set it, then try again"
            )
            raise Problem(RefusalCode.CLOCK_APART, detail)

    async def _change(
        self, found: StoredMessage, change: Callable[[JoinRecord], JoinRecord]
    ) -> JoinRecord:
        """Replace a join token's record by compare-and-set; look again whenever somebody was first."""
        while True:
            record = read(JoinRecord, found.data)
            changed = change(record)
            if changed == record:
                return record
            try:
                data, expected = changed.to_bytes(), found.sequence
                await self.streams.append(found.subject, data, expected=expected)
            except Conflict:
                newest = await self.streams.last(DEVICES, found.subject)
                assert newest is not None, "a join token's record is never deleted"
                found = newest
                continue
            return changed


def _demand_proof(device: DeviceKey, domain: bytes, said: str, proof: str) -> None:
    try:
        key = signing.encode(nkeys.raw_public(nkeys.Kind.USER, device))
    except nkeys.BadKey as error:
        raise Problem(RefusalCode.INVALID, f"body.device: {error}") from error
    if not verify(key, domain, said, proof):
        detail = "body.proof: it is not the device key's signature over this request"
        raise Problem(RefusalCode.BAD_SIGNATURE, detail)


def _join_view(record: JoinRecord, now: datetime) -> JoinView:
    ended = "revoked" if record.revoked else "expired" if record.expires <= now else None
    used = "used" if len(record.devices) >= record.uses else "valid"
    shown = {name: value for name, value in dict(record).items() if name != "secret"}
    return JoinView.model_validate({**shown, "state": ended or used})


def _device_view(record: DeviceRecord) -> DeviceView:
    return DeviceView(**dict(record), state="revoked" if record.revoked else "enrolled")
