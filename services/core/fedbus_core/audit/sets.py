"""Checks an included set: its bytes, the clients' signatures, the updates and the metrics behind it."""

import base64
import binascii
import contextlib
from dataclasses import dataclass, field

from fedbus_schemas import keys, signing
from fedbus_schemas.codec import Unreadable, digest, read
from fedbus_schemas.events import RoundCompleted
from fedbus_schemas.sets import IncludedSet, IncludedUpdate
from fedbus_schemas.updates import Manifest, StoredUpdate

from fedbus_core.aggregation.metrics import weighted_metrics
from fedbus_core.audit.blobs import BlobCheck
from fedbus_core.audit.bundle import MESSAGE_BYTES_MAX, Bundle, UpdateMember, blob_name
from fedbus_core.audit.chain import Outcome
from fedbus_core.audit.findings import Code, Report, place
from fedbus_core.audit.heads import CheckSignature

SET_BYTES_MAX = 64 * 1024 * 1024


def inline_bytes(stored: StoredUpdate) -> bytes | None:
    """Decode the update that rides in a message; None if there is none or it is not base64."""
    if stored.inline is None:
        return None
    try:
        return base64.b64decode(stored.inline, validate=True)
    except (binascii.Error, ValueError):
        return None


@dataclass(slots=True)
class SetCheck:
    """Takes the completed rounds. `weight_max` is the session's largest weight of one update."""

    bundle: Bundle
    report: Report
    blobs: BlobCheck
    check: CheckSignature
    weight_max: int = 0
    _manifests: list[tuple[int, Manifest]] = field(default_factory=list)

    def take(self, outcome: Outcome, event: RoundCompleted) -> None:
        """Check one round's included set and all that hangs on it."""
        key = keys.included_set(self.bundle.index.project, event.included.digest)
        where = place(blob_name(key), entry=outcome.number, attempt=outcome.attempt)
        if not self.blobs.take(key, event.included, where):
            return
        data = self.bundle.content(blob_name(key), size_max=SET_BYTES_MAX) or b""
        try:
            included = read(IncludedSet, data)
        except Unreadable as error:
            self.report.add(Code.SET_MISMATCH, where, f"it cannot be read: {error}")
            return
        if included.to_bytes() != data:
            self.report.add(Code.SET_MISMATCH, where, "its bytes are not their one form")
        self._check_frame(outcome, event, included, where)
        stored = {one.client: one for one in self.bundle.updates(*outcome.attempt)}
        members = {one.client: one.key for one in outcome.opened.cohort}
        self._manifests = []
        for update in included.updates:
            at = f"{where}, client {update.client}"
            self._check_update(outcome, update, members.get(update.client), at)
            self._check_stored(outcome, update, stored.get(update.client), at)
        self._check_metrics(event, where)

    def _check_frame(
        self, outcome: Outcome, event: RoundCompleted, included: IncludedSet, where: str
    ) -> None:
        index = self.bundle.index
        names = (included.project, included.session, included.round, included.attempt)
        if names != (index.project, index.session, *outcome.attempt):
            self.report.add(Code.SET_MISMATCH, where, f"it is of another attempt: {names}")
        if included.base != outcome.opened.model.digest:
            detail = f"its base is {included.base[:16]}…, the round's is "
            self.report.add(
                Code.SET_MISMATCH, where, f"{detail}{outcome.opened.model.digest[:16]}…"
            )
        clients = tuple(update.client for update in included.updates)
        if clients != event.counted:
            self.report.add(Code.SET_MISMATCH, where, "its clients are not those counted, sorted")
        weight = sum(update.weight for update in included.updates)
        if weight != event.weight:
            detail = f"its weights add up to {weight}, the log says {event.weight}"
            self.report.add(Code.SET_MISMATCH, where, detail)

    def _check_update(
        self, outcome: Outcome, update: IncludedUpdate, key: str | None, where: str
    ) -> None:
        self.report.totals.counted += 1
        if update.sequence > outcome.cutoff:
            detail = f"stored at {update.sequence}, the cut-off is {outcome.cutoff}"
            self.report.add(Code.UPDATE_LATE, where, detail)
        try:
            manifest = read(Manifest, update.signed.manifest)
        except Unreadable as error:
            self.report.add(Code.MANIFEST_MISMATCH, where, f"no manifest: {error}")
            return
        self._manifests.append((update.weight, manifest))
        index = self.bundle.index
        expected = {
            "project": index.project,
            "session": index.session,
            "round": outcome.attempt[0],
            "attempt": outcome.attempt[1],
            "client": update.client,
            "base": outcome.opened.model.digest,
            "update": update.update,
            "weight": update.weight,
        }
        for name, value in expected.items():
            if getattr(manifest, name) != value:
                detail = f"{name}: signed {getattr(manifest, name)}, counted {value}"
                self.report.add(Code.MANIFEST_MISMATCH, where, detail)
        if not 1 <= update.weight <= self.weight_max:
            detail = f"the weight {update.weight} is not in 1..{self.weight_max}"
            self.report.add(Code.SET_MISMATCH, where, detail)
        signed = update.signed
        message = signing.message(signing.MANIFEST, signed.manifest)
        if signed.key != key:
            detail = f"signed with {signed.key}, the round opened with {key}"
            self.report.add(Code.MANIFEST_SIGNATURE, where, detail)
        elif not self.check(signed.key, message, signed.signature):
            self.report.add(Code.MANIFEST_SIGNATURE, where, f"{signed.key} did not sign this")
        else:
            self.report.totals.signatures += 1

    def _check_stored(
        self, outcome: Outcome, update: IncludedUpdate, found: UpdateMember | None, where: str
    ) -> None:
        """Compare with the message that was stored, and find the update's bytes there or in a blob."""
        key = keys.update(self.bundle.index.project, update.client, update.update.digest)
        stored: StoredUpdate | None = None
        if found is not None:  # one that is missing is reported with the outcome
            data = self.bundle.content(found.member.name, size_max=MESSAGE_BYTES_MAX) or b""
            with contextlib.suppress(Unreadable):  # reported with the outcome
                stored = read(StoredUpdate, data)
            if found.sequence != update.sequence:
                detail = f"counted from {update.sequence}, stored at {found.sequence}"
                self.report.add(Code.SEQUENCE, where, detail)
        if stored is not None:
            signed = update.signed
            if (stored.manifest, stored.key, stored.signature) != (
                signed.manifest,
                signed.key,
                signed.signature,
            ):
                detail = f"it is not the message in {found.member.name if found else ''}"
                self.report.add(Code.MANIFEST_MISMATCH, where, detail)
        inline = inline_bytes(stored) if stored is not None else None
        if inline is None or self.bundle.blob(key) is not None:
            self.blobs.take(key, update.update, where)
        elif (digest(inline), len(inline)) != (update.update.digest, update.update.size):
            detail = f"the update inside the message is {digest(inline)[:16]}…"
            self.report.add(Code.BLOB_HASH, where, detail)

    def _check_metrics(self, event: RoundCompleted, where: str) -> None:
        if len(self._manifests) != len(event.counted) or any(w < 1 for w, _ in self._manifests):
            return  # reported already
        found = weighted_metrics((weight, one.metrics) for weight, one in self._manifests)
        for name in sorted(found.keys() | event.metrics.keys()):
            if found.get(name) != event.metrics.get(name):
                detail = f"{name}: {event.metrics.get(name)} in the log, {found.get(name)} derived"
                self.report.add(Code.METRICS_MISMATCH, where, detail)
