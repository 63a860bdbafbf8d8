"""Tells the servers that the data's owner does not allow a task: signed, so that the log can show it."""

import hashlib
import logging
from typing import assert_never

from fedbus_schemas import signing
from fedbus_schemas.asks import Decline
from fedbus_schemas.models import BlobRef
from fedbus_schemas.updates import Manifest, Submission

from fedbus._asking import OPEN_SOON, Asker
from fedbus._keys import Keys
from fedbus._participant import Job, TrainJob, ValidateJob
from fedbus.consent.policy import Denied, Package, Request
from fedbus.errors import BusAway

log = logging.getLogger("fedbus")

NOTHING = BlobRef(digest=hashlib.sha256(b"").hexdigest(), size=0)
"""The update of one who declines."""
DETAIL_MAX = 512
"""Characters of a decline's sentence."""


class Declining:
    """Sends declines."""

    def __init__(self, asker: Asker, keys: Keys, project: str) -> None:
        self._asker = asker
        self._keys = keys
        self._project = project

    async def say(self, job: Job, client: str, denied: Denied, until: float) -> None:
        """Decline a job. A train task is declined for good: its round need not wait for this client."""
        message = decline(job, client, denied, self._project, self._keys)
        try:
            answer = await self._asker.insist("decline", message, until=until, passing=OPEN_SOON)
        except BusAway as error:
            log.warning("%s: the decline did not arrive: %s", job.session, error)
            return
        if answer.refusal is not None:
            log.info("%s: the decline was not taken: %s", job.session, answer.refusal.code)


def decline(job: Job, client: str, denied: Denied, project: str, keys: Keys) -> Decline:
    """Make what declines a job; for a train task with the signed manifest that takes the update's place."""
    submission = (
        _submission(job, client, denied, project, keys) if isinstance(job, TrainJob) else None
    )
    return Decline(
        kind=job.task.kind,
        session=job.session,
        round=job.task.round,
        rule=denied.rule,
        detail=denied.detail[:DETAIL_MAX],
        submission=submission,
    )


def request_of(job: Job, project: str, code: Package) -> Request:
    """Say what a job asks of this site."""
    task = job.task
    attempt: int | None = None
    size = 0
    match job:
        case TrainJob():
            attempt, size = job.task.attempt, task.model.size
        case ValidateJob():
            pass
        case _:
            assert_never(job)
    return Request(
        kind=task.kind,
        project=project,
        session=job.session,
        session_name=task.session_name or "",
        round=task.round,
        attempt=attempt,
        model=task.model.digest,
        cohort=task.cohort,
        package=code,
        local_refused=task.local_packages is False,
        size=size,
    )


def _submission(job: TrainJob, client: str, denied: Denied, project: str, keys: Keys) -> Submission:
    manifest = Manifest(
        project=project,
        session=job.session,
        round=job.task.round,
        attempt=job.task.attempt,
        client=client,
        base=job.task.model.digest,
        update=NOTHING,
        weight=0,
        declined=denied.rule,
    )
    text = manifest.to_bytes().decode()
    signature = keys.sign(signing.MANIFEST, text)
    return Submission(manifest=text, key=keys.public, signature=signature)
