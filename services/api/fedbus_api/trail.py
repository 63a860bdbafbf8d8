"""The trail of models: from each model to those that were trained from it. Pure, over the models' views."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from fedbus_schemas.ids import Sha256
from fedbus_schemas.views import ModelView

Children = Mapping[Sha256, Sequence[ModelView]]


def children(models: Iterable[ModelView]) -> Children:
    """Give the models that were made from each model."""
    found: dict[Sha256, list[ModelView]] = {}
    for one in models:
        if one.parent is not None:
            found.setdefault(one.parent, []).append(one)
    return found


def descendants(models: Iterable[ModelView], digest: Sha256) -> list[ModelView]:
    """Give all that was made from a model, and from what was made of it: the nearest first."""
    made = children(models)
    found: list[ModelView] = []
    seen = {digest}
    waiting = deque([digest])
    while waiting:
        for one in made.get(waiting.popleft(), ()):
            found.append(one)
            if one.digest not in seen:  # a round may make what an earlier one has made
                seen.add(one.digest)
                waiting.append(one.digest)
    return found


def leaves(models: Sequence[ModelView]) -> list[ModelView]:
    """Give the models that nothing was made from."""
    parents = children(models).keys()
    return [one for one in models if one.digest not in parents]
