"""The state of a session's open round as Redis holds it: what ingest, grants and the api look at."""

from dataclasses import dataclass

from fedbus_schemas.ids import AttemptNumber, ProjectId, RoundNumber, SessionId


@dataclass(frozen=True, slots=True)
class LiveRound:
    """Where a session stands. `number` is the log entry it was made from: a higher one is newer.

    `phase` is the round's while one is open (collecting, closing), else the session's. `target` is how
    many stored updates close the round; 0 when none is open. `batch_size`: how many make a fold item;
    0 when the finish folds them all.
    """

    project: ProjectId
    session: SessionId
    number: int
    phase: str
    round: RoundNumber
    attempt: AttemptNumber
    target: int
    batch_size: int
