"""Answers to commands that are the client's own, not its functions'."""

from fedbus.errors import BadResult
from fedbus.trainer import Model, Packages, Settings

PACKAGE = "package"
"""The parameter of `restart`: the SHA-256 of a package that is here; without it, the one used last."""


def staged(model: Model | None, settings: Settings) -> object:
    """Say that a model lies in the cache."""
    if model is None:
        raise BadResult("there is no model to stage")
    return {"tensors": len(model)}


def restarted(packages: Packages, latest: str, _model: Model | None, settings: Settings) -> object:
    """Start a package anew: the one that is named and is here, or the one used last."""
    digest = settings.get(PACKAGE, latest)
    if not isinstance(digest, str):
        raise BadResult(f"the parameter {PACKAGE} must be the SHA-256 of a package")
    packages.restart(digest, None, settings.cancelled)
    return {PACKAGE: digest}
