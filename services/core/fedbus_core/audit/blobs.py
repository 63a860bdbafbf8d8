"""Checks blobs: that each one that the log names is here and is what its name says."""

from dataclasses import dataclass, field

from fedbus_schemas import keys
from fedbus_schemas.models import BlobRef, ModelRef

from fedbus_core.aggregation.exact import exponents_of
from fedbus_core.aggregation.tensorfile import TensorFileError, parse_layout
from fedbus_core.audit.bundle import Bundle, blob_name
from fedbus_core.audit.findings import Code, Level, Report, place


@dataclass(slots=True)
class BlobCheck:
    """Takes references to blobs. `damaged` names the members whose content has another SHA-256.

    `named` gathers the keys that the log named, so that what nobody names can be told.
    """

    bundle: Bundle
    report: Report
    damaged: frozenset[str]
    models_removed: bool
    named: set[str] = field(default_factory=set)
    _models: dict[str, ModelRef] = field(default_factory=dict)

    def take(self, key: str, ref: BlobRef, where: str) -> bool:
        """Check one blob; true when it is here and whole."""
        first = key not in self.named
        self.named.add(key)
        member = self.bundle.blob(key)
        if member is None:
            self._absent(key, where, first=first)
            return False
        if first:
            self.report.totals.blobs += 1
        if member.size != ref.size:
            detail = f"{member.size} bytes, the log says {ref.size}"
            self.report.add(Code.BLOB_HASH, where, detail)
            return False
        return blob_name(key) not in self.damaged  # reported with the checksums

    def model(self, ref: ModelRef, entry: int, *, derived: bool) -> None:
        """Check a model once: its bytes, its layout, its exponents."""
        key = keys.model(self.bundle.index.project, ref.digest)
        where = place(blob_name(key), entry=entry)
        if ref.digest in self._models:
            if self._models[ref.digest] != ref:
                detail = "the log describes the same model in two ways"
                self.report.add(Code.MODEL_MISMATCH, where, detail)
            return
        self._models[ref.digest] = ref
        if derived and self._left_out(key, where):
            return
        if not self.take(key, ref, where):
            return
        self.report.totals.models += 1
        data = self.bundle.content(blob_name(key)) or b""
        try:
            layout = parse_layout(data, len(data))
            exponents = exponents_of(layout, data)
        except (TensorFileError, ValueError) as error:
            self.report.add(Code.MODEL_MISMATCH, where, str(error))
            return
        if layout.digest != ref.layout:
            detail = f"its layout is {layout.digest[:16]}…, the log says {ref.layout[:16]}…"
            self.report.add(Code.MODEL_MISMATCH, where, detail)
        elif exponents != ref.exponents:
            self.report.add(Code.MODEL_MISMATCH, where, "its exponents are not those in the log")

    def state(self, ref: BlobRef, entry: int) -> None:
        """Check what a rule remembers after a round: replay can make it again, as it does models."""
        key = keys.rule_state(self.bundle.index.project, ref.digest)
        where = place(blob_name(key), entry=entry)
        if not self._left_out(key, where):
            self.take(key, ref, where)

    def _left_out(self, key: str, where: str) -> bool:
        """Whether a derived blob was left out of the bundle on purpose; reported once."""
        absent = self.bundle.absent.get(key)
        if self.bundle.blob(key) is not None or absent is None or absent.why != "left_out":
            return False
        if key not in self.named:
            self.named.add(key)
            level = Level.NOTE if self.models_removed else Level.ERROR
            self.report.add(Code.MODEL_REMOVED, where, "left out of this bundle", level)
        return True

    def strays(self) -> None:
        """Report what the log names nowhere, after the last entry."""
        blobs = [name for name in self.bundle.members if name.startswith("blobs/")]
        unnamed = {name.removeprefix("blobs/") for name in blobs}
        for key in sorted((unnamed | self.bundle.absent.keys()) - self.named):
            detail = "no entry of the log names this blob"
            self.report.add(Code.STRAY, blob_name(key), detail)

    def _absent(self, key: str, where: str, *, first: bool) -> None:
        absent = self.bundle.absent.get(key)
        if absent is not None and absent.why == "pruned":
            if first:
                self.report.totals.pruned += 1
                self.report.add(Code.BLOB_PRUNED, where, f"{absent.size} bytes", Level.NOTE)
            return
        self.report.add(Code.BLOB_MISSING, where, f"{key} is not in the bundle")
