"""Compute packages: stored ones, the active one, and the generations of a federation.

The package of a configured federation is never replaced: once a session has used it, only a new generation
has another one. Every step is a compare-and-set on the federation's record, so two operators, or an operator
and a session that starts, cannot both be right.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterable

from fedbus_runtime.errors import Conflict
from fedbus_runtime.ports import Blobs, Clock, StoredMessage, Streams
from fedbus_runtime.signing_keys import verify
from fedbus_schemas import keys, signing, subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ProjectId, SessionId, Sha256
from fedbus_schemas.models import PACKAGE_SIGNATURES_MAX, PackageRef, PackageSignature
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.registry import FederationRecord, PackageRecord
from fedbus_schemas.streams import REGISTRY
from fedbus_schemas.views import FederationView, GenerationView, PackageView

from fedbus_api.bodies import receive
from fedbus_api.problems import Problem

UPLOADS_AT_ONCE = 2
TRIES_MAX = 20
"""How often a change of the federation's record is tried again because another was first."""
TAR_MAGIC_AT = 257

_FORMS = ((b"\x1f\x8b", "tar.gz"), (b"BZh", "tar.bz2"), (b"PK\x03\x04", "zip"))


class Packages:
    """Takes packages in and says which one sessions run."""

    def __init__(self, streams: Streams, blobs: Blobs, clock: Clock, bytes_max: int) -> None:
        self._streams = streams
        self._blobs = blobs
        self._clock = clock
        self._bytes_max = bytes_max
        self._uploads = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def upload(
        self, project: ProjectId, body: AsyncIterable[bytes], name: str, digest: Sha256 | None
    ) -> tuple[PackageView, bool]:
        """Take an archive in; give it, and whether it is new.

        Raises `Problem` when it is no archive, or is not the one that `digest` names.
        """
        async with self._uploads:
            setting = "FEDBUS_API__PACKAGE_BYTES_MAX"
            content = await receive(body, self._bytes_max, "package", setting)
            form = _form(content)
            found = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
            if digest not in (None, found):
                detail = f"the bytes have the SHA-256 {found}, not {digest}"
                raise Problem(RefusalCode.HASH_MISMATCH, detail)
            await self._blobs.put(keys.package(project, found), [content])
        blob = PackageRef(digest=found, size=len(content))
        record = PackageRecord(package=blob, name=name, form=form, since=self._clock.now())
        is_new = True
        try:
            subject = subjects.package_record(project, found)
            await self._streams.append(subject, record.to_bytes(), expected=0)
        except Conflict:
            record, is_new = await self._record(project, found), False
        return await self._view(project, record), is_new

    async def packages(self, project: ProjectId) -> list[PackageView]:
        """List the stored packages, newest first."""
        _, current = await self._current(project)
        stored = await self._streams.read(REGISTRY, subjects.package_record(project))
        views = [_shown(record, current) for one in stored if (record := _package(one)) is not None]
        return sorted(views, key=lambda one: (one.created, one.digest), reverse=True)

    async def package(self, project: ProjectId, digest: Sha256) -> PackageView:
        """Give a stored package. Raises `Problem`."""
        return await self._view(project, await self._record(project, digest))

    async def sign(
        self, project: ProjectId, digest: Sha256, signature: PackageSignature
    ) -> PackageView:
        """Keep that somebody vouches for a package; sessions that start from now on say so to their clients.

        Raises `Problem` for a signature that does not hold.
        """
        if not verify(signature.key, signing.PACKAGE, digest, signature.signature):
            detail = "over fl/package/v1, a zero byte and the archive's SHA-256"
            raise Problem(RefusalCode.BAD_SIGNATURE, detail)
        for _ in range(TRIES_MAX):
            sequence, record = await self._found(project, digest)
            others = [one for one in record.package.signatures or () if one.key != signature.key]
            if len(others) >= PACKAGE_SIGNATURES_MAX:
                raise Problem(RefusalCode.TOO_LARGE, f"{PACKAGE_SIGNATURES_MAX} signatures at most")
            signed = record.package.model_copy(update={"signatures": (*others, signature)})
            following = record.model_copy(update={"package": signed})
            try:
                await self._streams.append(
                    subjects.package_record(project, digest),
                    following.to_bytes(),
                    expected=sequence,
                )
            except Conflict:
                continue
            return await self._view(project, following)
        raise _busy()

    async def active(self, project: ProjectId) -> PackageView:
        """Give the package that a new session pins. Raises `Problem`."""
        _, current = await self._current(project)
        if current.package is None:
            raise Problem(RefusalCode.NOT_FOUND, f"project {project} has no active package")
        return _shown(await self._record(project, current.package.digest), current)

    async def federation(self, project: ProjectId) -> FederationView:
        """Say what the federation runs, and what its generations were set up with, newest first."""
        _, current = await self._current(project)
        stored = await self._streams.read(REGISTRY, subjects.generation_record(project))
        generations = [read(FederationRecord, one.data) for one in stored]
        return FederationView(
            generation=current.generation,
            package=current.package.digest if current.package else None,
            model=current.model,
            configured=current.is_configured,
            session=current.session,
            since=current.since,
            generations=tuple(
                GenerationView(
                    number=one.generation,
                    package=one.package.digest,
                    model=one.model,
                    since=one.since,
                )
                for one in sorted(generations, key=lambda one: one.generation, reverse=True)
                if one.package is not None
            ),
        )

    async def activate(self, project: ProjectId, digest: Sha256) -> FederationView:
        """Make a stored package the active one. Raises `Problem` when a session has used another."""
        package = (await self._record(project, digest)).package
        return await self._replace(project, package)

    async def deactivate(self, project: ProjectId) -> FederationView:
        """Have no active package. Raises `Problem` when a session has used the present one."""
        return await self._replace(project, None)

    async def initialise(
        self, project: ProjectId, package: Sha256, model: Sha256
    ) -> FederationView:
        """Begin a new generation with this package and seed model. Running sessions keep theirs."""
        record = await self._record(project, package)
        for _ in range(TRIES_MAX):
            sequence, current = await self._current(project)
            following = FederationRecord(
                generation=current.generation + 1 if sequence else 1,
                package=record.package,
                model=model,
                since=self._clock.now(),
            )
            if await self._append(project, following, sequence):
                return await self.federation(project)
        raise _busy()

    async def for_session(
        self, project: ProjectId, session: SessionId, wanted: Sha256 | None
    ) -> PackageRef | None:
        """Give the package that a new session pins; from now on the federation is configured.

        None when there is no active one and none is wanted. Raises `Problem` for a package that is neither
        the active one nor one of an earlier generation.
        """
        for _ in range(TRIES_MAX):
            sequence, current = await self._current(project)
            if wanted is not None and (current.package is None or current.package.digest != wanted):
                return await self._earlier(project, wanted)
            if current.package is None:
                return None
            package = (await self._record(project, current.package.digest)).package  # as signed now
            if current.session is not None:
                return package
            configured = current.model_copy(update={"session": session})
            # First the generation: whoever sees the federation as configured finds it among them.
            generation = subjects.generation_record(project, current.generation)
            await self._streams.append(generation, configured.to_bytes())
            if await self._append(project, configured, sequence):
                return package
        raise _busy()

    async def _earlier(self, project: ProjectId, wanted: Sha256) -> PackageRef:
        package = (await self._record(project, wanted)).package
        stored = await self._streams.read(REGISTRY, subjects.generation_record(project))
        known = [read(FederationRecord, one.data).package for one in stored]
        if wanted not in [one.digest for one in known if one is not None]:
            raise Problem(RefusalCode.PACKAGE_NOT_CONFIGURED, f"package {wanted}")
        return package

    async def _replace(self, project: ProjectId, package: PackageRef | None) -> FederationView:
        for _ in range(TRIES_MAX):
            sequence, current = await self._current(project)
            if _is(current.package, package):
                break
            if current.is_configured:
                assert current.package is not None, "a configured federation has a package"
                detail = (
                    f"session {current.session} has used the package {current.package.digest} of "
                    f"generation {current.generation}; POST /v1/federation/initialise with a package "
                    "and a seed model begins a new generation"
                )
                raise Problem(RefusalCode.FEDERATION_CONFIGURED, detail)
            changed = current.model_copy(update={"package": package, "since": self._clock.now()})
            if await self._append(project, changed, sequence):
                break
        else:
            raise _busy()
        return await self.federation(project)

    async def _current(self, project: ProjectId) -> tuple[int, FederationRecord]:
        message = await self._streams.last(REGISTRY, subjects.federation_record(project))
        if message is None:
            return 0, FederationRecord(since=self._clock.now())
        return message.sequence, read(FederationRecord, message.data)

    async def _append(self, project: ProjectId, record: FederationRecord, expected: int) -> bool:
        """Replace the federation's record; False when another was first."""
        subject = subjects.federation_record(project)
        try:
            await self._streams.append(subject, record.to_bytes(), expected=expected)
        except Conflict:
            return False
        return True

    async def _record(self, project: ProjectId, digest: Sha256) -> PackageRecord:
        return (await self._found(project, digest))[1]

    async def _found(self, project: ProjectId, digest: Sha256) -> tuple[int, PackageRecord]:
        message = await self._streams.last(REGISTRY, subjects.package_record(project, digest))
        record = _package(message) if message is not None else None
        if message is None or record is None:
            raise Problem(RefusalCode.NOT_FOUND, f"package {digest} in project {project}")
        return message.sequence, record

    async def _view(self, project: ProjectId, record: PackageRecord) -> PackageView:
        _, current = await self._current(project)
        return _shown(record, current)


def _is(one: PackageRef | None, other: PackageRef | None) -> bool:
    """Whether both are the same archive, whoever vouches for it."""
    return (one and one.digest) == (other and other.digest)


def _package(message: StoredMessage) -> PackageRecord | None:
    try:
        return read(PackageRecord, message.data)
    except Unreadable:
        return None


def _shown(record: PackageRecord, current: FederationRecord) -> PackageView:
    return PackageView(
        digest=record.package.digest,
        size=record.package.size,
        name=record.name,
        form=record.form,
        active=_is(current.package, record.package),
        signers=tuple(one.key for one in record.package.signatures or ()),
        created=record.since,
    )


def _form(content: bytearray) -> str:
    """Say what kind of archive this is. Clients unpack it; nothing of it is read here."""
    for magic, form in _FORMS:
        if content.startswith(magic):
            return form
    if content[TAR_MAGIC_AT : TAR_MAGIC_AT + 5] == b"ustar":
        return "tar"
    detail = "a package is a tar.gz, tgz, tar.bz2, tar or zip archive; see `fedbus package create`"
    raise Problem(RefusalCode.UNREADABLE, detail)


def _busy() -> Problem:
    return Problem(RefusalCode.RETRY_LATER, "the federation is being changed by others")
