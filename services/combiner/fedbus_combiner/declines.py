"""Takes a client's word that its owner does not allow a task: noted, and stored where an update would be."""

from fedbus_schemas.asks import Answer, Decline, Noted
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.updates import Manifest

from fedbus_combiner.ingest import Ingest, Submitted
from fedbus_combiner.notes import Notes


class Declines:
    """Answers `decline`."""

    def __init__(self, ingest: Ingest, notes: Notes) -> None:
        self._ingest = ingest
        self._notes = notes

    async def decline(self, project: ProjectId, sender: ClientRecord, data: bytes) -> Answer:
        """Note a decline; for a train task store its signed manifest. Raises `Away`.

        What is stored counts like an update that is refused in the finish: the round does not wait for it.
        """
        try:
            declined = read(Decline, data)
            submitted: Submitted | None = None
            if declined.submission is not None:
                manifest = read(Manifest, declined.submission.manifest)
                submitted = Submitted(declined.submission, manifest)
                if manifest.declined != declined.rule or declined.submission.inline is not None:
                    detail = "submission: its manifest does not decline by this rule"
                    return Answer.refused(RefusalCode.UNREADABLE, detail)
        except Unreadable as error:
            return Answer.refused(RefusalCode.UNREADABLE, str(error))
        detail = f"{declined.kind}, by the rule {declined.rule}"
        said = f"{detail}: {declined.detail}" if declined.detail else detail
        reason = Refusal(code=RefusalCode.DECLINED, detail=said)
        self._notes.refused(project, sender.device, "decline", data, reason)
        if submitted is None:
            return Answer(noted=Noted())
        return await self._ingest.submit(project, sender, submitted)
