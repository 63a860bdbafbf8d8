"""Where blobs lie in the bucket. The project is the first part of every key, the SHA-256 the last."""

from fedbus_schemas.ids import ClientId, ProjectId, SessionId, Sha256


def model(project: ProjectId, digest: Sha256) -> str:
    """A model."""
    return f"{project}/models/{digest}"


def update(project: ProjectId, client: ClientId, digest: Sha256) -> str:
    """A client's update, under the client's own prefix."""
    return f"{project}/updates/{client}/{digest}"


def included_set(project: ProjectId, digest: Sha256) -> str:
    """An included-set blob."""
    return f"{project}/sets/{digest}"


def partial(project: ProjectId, session: SessionId, digest: Sha256) -> str:
    """A partial sum: a cache that may be deleted at any time."""
    return f"{project}/partials/{session}/{digest}"
