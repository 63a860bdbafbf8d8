"""Checks what a closing found against the stored updates: nobody counted late, nobody left out."""

from dataclasses import dataclass

from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.events import RoundCompleted
from fedbus_schemas.updates import Manifest, StoredUpdate

from fedbus_core.audit.bundle import MESSAGE_BYTES_MAX, UNREADABLE, Bundle, UpdateMember
from fedbus_core.audit.chain import Outcome, Pruned
from fedbus_core.audit.findings import Code, Level, Report, place
from fedbus_core.audit.sets import SetCheck


@dataclass(slots=True)
class OutcomeCheck:
    """Takes the outcomes in the order of the log. `sealed` is the highest cut-off of earlier attempts."""

    bundle: Bundle
    report: Report
    sets: SetCheck
    pruned: Pruned
    sealed: int = 0

    def take(self, outcome: Outcome) -> None:
        """Check one outcome; a completed round's included set too."""
        stored = self.bundle.updates(*outcome.attempt)
        ends = outcome.event.TYPE != "round.reopened.v1"
        if ends:
            self._check_members(outcome, stored)
        if not stored and self.pruned.has(outcome.attempt):
            where = place("log", entry=outcome.number, attempt=outcome.attempt)
            detail = "as the log says; what was stored is not compared"
            self.report.add(Code.UPDATES_PRUNED, where, detail, Level.NOTE)
        else:
            self._check_complete(outcome, [one for one in stored if one.sequence <= outcome.cutoff])
        if isinstance(outcome.event, RoundCompleted):
            self.report.totals.rounds += 1
            self.sets.take(outcome, outcome.event)
        if ends:
            self.sealed = max(self.sealed, outcome.cutoff)

    def _check_members(self, outcome: Outcome, stored: list[UpdateMember]) -> None:
        clients: set[str] = set()
        last = self.sealed
        cohort = {one.client for one in outcome.opened.cohort}
        for one in stored:
            self.report.totals.updates += 1
            where = place(one.member.name, attempt=outcome.attempt, client=one.client)
            if one.sequence <= last:
                detail = f"stored at {one.sequence}, and {last} was taken before it"
                self.report.add(Code.SEQUENCE, where, detail)
            last = max(last, one.sequence)
            if one.client == UNREADABLE:
                note = "its bytes are kept as they are"
                self.report.add(Code.UPDATE_UNREADABLE, where, note, Level.NOTE)
                continue
            if one.client in clients:
                self.report.add(Code.SEQUENCE, where, "a second update of this client")
            clients.add(one.client)
            if one.client not in cohort:
                self.report.add(Code.STRAY, where, "the client was not in the cohort")
            self._check_name(outcome, one, where)

    def _check_name(self, outcome: Outcome, one: UpdateMember, where: str) -> None:
        data = self.bundle.content(one.member.name, size_max=MESSAGE_BYTES_MAX) or b""
        try:
            manifest = read(Manifest, read(StoredUpdate, data).manifest)
        except Unreadable as error:
            self.report.add(Code.UPDATE_UNREADABLE, where, str(error))
            return
        index = self.bundle.index
        names = (manifest.project, manifest.session, manifest.round, manifest.attempt)
        if (*names, manifest.client) != (
            index.project,
            index.session,
            *outcome.attempt,
            one.client,
        ):
            detail = f"its manifest is of {names[0]}/{names[1]} round {names[2]}.{names[3]}"
            self.report.add(Code.MANIFEST_MISMATCH, where, f"{detail}, client {manifest.client}")

    def _check_complete(self, outcome: Outcome, candidates: list[UpdateMember]) -> None:
        event = outcome.event
        stored = {one.client for one in candidates} - {UNREADABLE}
        nameless = sum(one.client == UNREADABLE for one in candidates)
        refused = {one.client for one in event.refused}
        where = place("log", entry=outcome.number, attempt=outcome.attempt)
        missing = sorted(refused - stored)
        if len(missing) > nameless:
            detail = f"refused, but not stored by {outcome.cutoff}: {', '.join(missing)}"
            self.report.add(Code.UPDATE_MISSING, where, detail)
        if not isinstance(event, RoundCompleted):
            found = event.valid + len(refused)
            if found != len(candidates):
                code = Code.UPDATE_DROPPED if found < len(candidates) else Code.UPDATE_MISSING
                detail = f"{event.valid} valid and {len(refused)} refused"
                detail += f", and {len(candidates)} were stored by the cut-off {outcome.cutoff}"
                self.report.add(code, where, detail)
            return
        for client in sorted(set(event.counted) - stored):
            detail = f"counted, but not stored by the cut-off {outcome.cutoff}"
            self.report.add(Code.UPDATE_MISSING, f"{where}, client {client}", detail)
        for client in sorted(stored - refused - set(event.counted)):
            detail = f"stored by the cut-off {outcome.cutoff}, neither counted nor refused"
            self.report.add(Code.UPDATE_DROPPED, f"{where}, client {client}", detail)
