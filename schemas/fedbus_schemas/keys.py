"""Where blobs lie in the bucket. The project is the first part of every key, the SHA-256 the last."""

from fedbus_schemas.ids import AttemptNumber, ClientId, ProjectId, RoundNumber, SessionId, Sha256


def model(project: ProjectId, digest: Sha256) -> str:
    """A model."""
    return f"{project}/models/{digest}"


def package(project: ProjectId, digest: Sha256) -> str:
    """A compute package's archive."""
    return f"{project}/packages/{digest}"


def update(project: ProjectId, client: ClientId, digest: Sha256) -> str:
    """A client's update, under the client's own prefix."""
    return f"{project}/updates/{client}/{digest}"


def result(project: ProjectId, client: ClientId, digest: Sha256) -> str:
    """A client's result of a command, under the client's own prefix."""
    return f"{project}/results/{client}/{digest}"


def all_pieces(project: ProjectId) -> str:
    """Under what the pieces of all updates lie."""
    return f"{project}/pieces/"


def pieces_of_client(project: ProjectId, client: ClientId) -> str:
    """Under what the pieces of all of a client's updates lie."""
    return f"{all_pieces(project)}{client}/"


def pieces(project: ProjectId, client: ClientId, digest: Sha256) -> str:
    """Under what the pieces of an update lie that came in pieces (`pieces.py`)."""
    return f"{pieces_of_client(project, client)}{digest}/"


def pieces_of(update_key: str) -> str | None:
    """Under what the pieces of the update with this key lie; None when it is no update's key."""
    project, kind, *rest = update_key.split("/")
    if kind != "updates" or len(rest) != 2:
        return None
    client, digest = rest
    return pieces(project, client, digest)


def piece(prefix: str, size: int, start: int, length: int, digest: Sha256) -> str:
    """A piece of an update of `size` bytes. `prefix` is `pieces(...)`."""
    return f"{prefix}{size}-{start:015d}-{length}/{digest}"


def server_functions(project: ProjectId, digest: Sha256) -> str:
    """The source of an operator's server functions."""
    return f"{project}/functions/{digest}"


def included_set(project: ProjectId, digest: Sha256) -> str:
    """An included-set blob."""
    return f"{project}/sets/{digest}"


def rule_state(project: ProjectId, digest: Sha256) -> str:
    """What an aggregation rule remembers from round to round."""
    return f"{project}/states/{digest}"


def partials(project: ProjectId, session: SessionId) -> str:
    """Under what a session's partial sums lie."""
    return f"{project}/partials/{session}/"


def partial(
    project: ProjectId,
    session: SessionId,
    round_number: RoundNumber,
    attempt: AttemptNumber,
    digest: Sha256,
) -> str:
    """A partial sum: a cache that may be deleted at any time."""
    return f"{partials(project, session)}{round_number}.{attempt}/{digest}"


def round_of_partial(key: str) -> int:
    """Give the round of a partial sum; 0 when the key is none of ours."""
    place = key.split("/")[-2]
    number = place.partition(".")[0]
    return int(number) if number.isdecimal() else 0
