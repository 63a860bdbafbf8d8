"""A planted bug: attributes of the production code, replaced for a while."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock


@dataclass(frozen=True, slots=True)
class Mutation:
    """A planted bug: what it is, where and as what it shows, and the attributes that it replaces."""

    name: str
    about: str
    scenarios: tuple[str, ...]
    shows: str
    changes: Mapping[str, tuple[object, Callable[[Any], Any]]]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Plant the bug."""
        patches: list[Any] = []
        for attribute, (owner, make) in self.changes.items():
            patches.append(mock.patch.object(owner, attribute, make(getattr(owner, attribute))))
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()
