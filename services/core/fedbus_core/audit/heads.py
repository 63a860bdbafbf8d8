"""Checks the signed heads: every end of an attempt or session is signed, by whom, over which entry."""

from collections.abc import Callable, Collection
from typing import TypeAlias

from fedbus_schemas import signing
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.envelope import Head, SignedHead

from fedbus_core.audit.bundle import MESSAGE_BYTES_MAX, Bundle, head_name
from fedbus_core.audit.findings import Code, Level, Report, place

CheckSignature: TypeAlias = Callable[[str, bytes, str], bool]
"""Whether an Ed25519 key (base64url) made this signature (base64url) over the message."""


class HeadCheck:
    """Takes the entries' digests in order, then says what is not covered."""

    def __init__(
        self, bundle: Bundle, trust: Collection[str], check: CheckSignature, report: Report
    ) -> None:
        self._bundle = bundle
        self._trust = trust
        self._check = check
        self._report = report
        self._heads = set(bundle.heads)
        self._last = max(bundle.heads, default=0)
        self._unsigned: list[int] = []

    def take(self, number: int, digest: str, *, must: bool) -> None:
        """Check the head of this entry; `must` says that there has to be one."""
        if number in self._heads:
            if self._valid(number, digest):
                self._report.totals.heads += 1
                self._report.totals.signed_entries = number
        elif must and number < self._last:
            self._missing(number)
        elif must:
            self._unsigned.append(number)

    def end(self, entries: int, *, is_open: bool) -> None:
        """Compare the ends of the log and of the heads, after the last entry."""
        report = self._report
        beyond = [number for number in self._bundle.heads if number > entries]
        if beyond:
            detail = f"there are {entries} entries, and a signed head for entry {beyond[-1]}"
            report.add(Code.TRUNCATED, place(head_name(beyond[-1]), entry=beyond[-1]), detail)
        # The end of an attempt is signed a moment after it; an export may fall in between, once.
        excused = self._unsigned[-1:] if is_open else []
        for number in self._unsigned[: len(self._unsigned) - len(excused)]:
            self._missing(number)
        tail = entries - self._last
        if tail > 0:
            level = Level.NOTE if is_open else Level.ERROR
            detail = f"{tail} entries after the last signed head, entry {self._last}"
            where = place("log", entry=self._last + 1)
            report.add(Code.UNSIGNED_TAIL, where, detail, level)

    def _missing(self, number: int) -> None:
        where = place(head_name(number), entry=number)
        self._report.add(Code.HEAD_MISSING, where, "there is no signed head for this entry")

    def _valid(self, number: int, digest: str) -> bool:
        name = head_name(number)
        where = place(name, entry=number)
        data = self._bundle.content(name, size_max=MESSAGE_BYTES_MAX) or b""
        try:
            signed = read(SignedHead, data)
            head = read(Head, signed.head)
        except Unreadable as error:
            self._report.add(Code.HEAD_MISMATCH, where, f"it cannot be read: {error}")
            return False
        index = self._bundle.index
        expected = Head(project=index.project, session=index.session, number=number, entry=digest)
        if head != expected:
            detail = (
                f"signed for {head.project}/{head.session} entry {head.number} with hash "
                f"{head.entry[:16]}…; this entry has {digest[:16]}…"
            )
            self._report.add(Code.HEAD_MISMATCH, where, detail)
            return False
        if signed.key not in self._trust:
            self._report.add(Code.HEAD_UNTRUSTED, where, f"signed with {signed.key}")
            return False
        if not self._check(
            signed.key, signing.message(signing.HEAD, signed.head), signed.signature
        ):
            self._report.add(Code.HEAD_SIGNATURE, where, f"key {signed.key} did not sign this")
            return False
        self._report.totals.signatures += 1
        return True
