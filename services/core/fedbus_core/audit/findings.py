"""What an audit finds: a code, the place, what is wrong there; and the totals of what was looked at."""

from dataclasses import dataclass, field
from enum import StrEnum

FINDINGS_MAX = 1_000
"""A forged log could make one for every entry; the first ones say enough."""


class Level(StrEnum):
    """An error means that the bundle proves nothing good; a note is something to know."""

    ERROR = "error"
    NOTE = "note"


class Code(StrEnum):
    """What kind of thing is wrong. The text of each stands in `MEANING`."""

    FORM = "form"
    CHECKSUM = "checksum"
    STRAY = "stray"
    CHAIN = "chain"
    ENTRY_MISSING = "entry_missing"
    ENTRY_UNREADABLE = "entry_unreadable"
    EVENT_UNKNOWN = "event_unknown"
    ILLEGAL = "illegal"
    HEAD_MISMATCH = "head_mismatch"
    HEAD_SIGNATURE = "head_signature"
    HEAD_UNTRUSTED = "head_untrusted"
    HEAD_MISSING = "head_missing"
    TRUNCATED = "truncated"
    UNSIGNED_TAIL = "unsigned_tail"
    UPDATE_UNREADABLE = "update_unreadable"
    UPDATE_MISSING = "update_missing"
    UPDATE_DROPPED = "update_dropped"
    UPDATE_LATE = "update_late"
    SEQUENCE = "sequence"
    SET_MISMATCH = "set_mismatch"
    MANIFEST_MISMATCH = "manifest_mismatch"
    MANIFEST_SIGNATURE = "manifest_signature"
    METRICS_MISMATCH = "metrics_mismatch"
    BLOB_MISSING = "blob_missing"
    BLOB_HASH = "blob_hash"
    BLOB_PRUNED = "blob_pruned"
    UPDATES_PRUNED = "updates_pruned"
    MODEL_REMOVED = "model_removed"
    MODEL_MISMATCH = "model_mismatch"
    MORE = "more"


MEANING: dict[Code, str] = {
    Code.FORM: "The file is damaged or was changed: its bytes are not the one form a bundle has.",
    Code.CHECKSUM: "The member's content or its line in SHA256SUMS was changed after the export.",
    Code.STRAY: "The bundle holds something that the log does not name.",
    Code.CHAIN: "An entry does not continue the one before it: something was changed, moved or cut out.",
    Code.ENTRY_MISSING: "An entry of the log is not in the bundle.",
    Code.ENTRY_UNREADABLE: "An entry is not what a controller writes; nothing after it can be judged.",
    Code.EVENT_UNKNOWN: "The log comes from a newer version; verify it with that one.",
    Code.ILLEGAL: "The event could not have been decided in that state.",
    Code.HEAD_MISMATCH: "A controller signed another log than this one.",
    Code.HEAD_SIGNATURE: "The signature of a head does not fit its content and key.",
    Code.HEAD_UNTRUSTED: "The head was signed with a key that is not trusted.",
    Code.HEAD_MISSING: "An attempt or the session ended and no controller signed for it.",
    Code.TRUNCATED: "Entries that a controller signed for are missing at the end of the log.",
    Code.UNSIGNED_TAIL: "The last entries are not covered by a signature.",
    Code.UPDATE_UNREADABLE: "A stored update cannot be read.",
    Code.UPDATE_MISSING: "A counted or refused update is not among the stored ones.",
    Code.UPDATE_DROPPED: "An update was stored in time and neither counted nor refused.",
    Code.UPDATE_LATE: "An update was counted that was stored after the cut-off.",
    Code.SEQUENCE: "The order in which updates were stored contradicts the log.",
    Code.SET_MISMATCH: "The included set does not say what the log says of the round.",
    Code.MANIFEST_MISMATCH: "What the client signed is not what was counted.",
    Code.MANIFEST_SIGNATURE: "The client's key did not sign this manifest.",
    Code.METRICS_MISMATCH: "The round's metrics do not follow from what the clients signed.",
    Code.BLOB_MISSING: "A blob that the log names is not in the bundle.",
    Code.BLOB_HASH: "A blob is not the one that its name says.",
    Code.BLOB_PRUNED: "The blob was deleted by rule before the export; it cannot be checked.",
    Code.UPDATES_PRUNED: "The stored updates of the attempt were deleted by rule; they cannot be checked.",
    Code.MODEL_REMOVED: "The derived model was left out of the bundle; replay can make it again.",
    Code.MODEL_MISMATCH: "The model's size, layout or exponents are not those in the log.",
    Code.MORE: f"Only the first {FINDINGS_MAX} findings are listed.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, and where."""

    code: Code
    place: str
    detail: str
    level: Level = Level.ERROR

    @property
    def meaning(self) -> str:
        """What findings of this code mean."""
        return MEANING[self.code]


@dataclass(slots=True)
class Totals:
    """How much was looked at. `signatures` counts the valid ones."""

    bytes: int = 0
    members: int = 0
    entries: int = 0
    signed_entries: int = 0
    heads: int = 0
    rounds: int = 0
    updates: int = 0
    counted: int = 0
    signatures: int = 0
    models: int = 0
    blobs: int = 0
    pruned: int = 0


@dataclass(slots=True)
class Report:
    """The result of `verify`. `readable` is false when the file is not a bundle at all.

    `origin` says whether the signatures were checked against keys given from outside; without, the
    bundle is consistent with itself, and whoever made it could have made its keys too.
    """

    origin: bool
    readable: bool = True
    project: str = ""
    session: str = ""
    phase: str = ""
    findings: list[Finding] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are not mere notes."""
        return tuple(found for found in self.findings if found.level is Level.ERROR)

    @property
    def ok(self) -> bool:
        """Whether everything that was checked is as it must be."""
        return self.readable and not self.errors

    def add(self, code: Code, place: str, detail: str, level: Level = Level.ERROR) -> None:
        """Keep a finding; the last place is for saying that there are more."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(code, place, detail[:500], level))
        elif self.findings[-1].code is not Code.MORE:
            self.findings.append(Finding(Code.MORE, place, "and more from here on"))


def place(
    member: str,
    *,
    entry: int | None = None,
    attempt: tuple[int, int] | None = None,
    client: str | None = None,
) -> str:
    """Name a place: the member, and what it stands for in the session."""
    words = [member]
    if entry is not None:
        words.append(f"entry {entry}")
    if attempt is not None:
        words.append(f"round {attempt[0]} attempt {attempt[1]}")
    if client is not None:
        words.append(f"client {client}")
    return ", ".join(words)
