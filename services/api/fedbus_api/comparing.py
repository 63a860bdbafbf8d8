"""Two sessions beside each other: the settings in which they differ, and their rounds. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from fedbus_schemas.trail_views import ComparedRound, ComparedRun, ComparisonView, SettingDifference
from fedbus_schemas.views import RoundView

from fedbus_api.documents import SessionDocument

ROUNDS_MAX = 1_000
"""Rounds of a comparison, from the first on."""


def compare(
    sessions: tuple[SessionDocument, SessionDocument],
    rounds: tuple[Sequence[RoundView], Sequence[RoundView]],
) -> ComparisonView:
    """Lay two sessions side by side; `rounds` are theirs, in any order."""
    first, second = sessions
    left, right = ({one.number: one for one in each} for each in rounds)
    numbers = sorted(left.keys() | right.keys())[:ROUNDS_MAX]
    return ComparisonView(
        sessions=(first.session, second.session),
        same_start=first.initial.digest == second.initial.digest,
        same_result=first.model.digest == second.model.digest,
        settings=tuple(_differences(_plain(first), _plain(second))),
        rounds=tuple(
            ComparedRound(number=number, first=_run(left, number), second=_run(right, number))
            for number in numbers
        ),
    )


def _plain(document: SessionDocument) -> Mapping[str, object]:
    return document.settings.model_dump(mode="json", by_alias=True)


def _differences(
    first: Mapping[str, object], second: Mapping[str, object], under: str = ""
) -> Iterator[SettingDifference]:
    for name in sorted(first.keys() | second.keys()):
        one, other = first.get(name), second.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{under}{name}.")
        elif one != other:
            yield SettingDifference(setting=f"{under}{name}", first=one, second=other)


def _run(rounds: Mapping[int, RoundView], number: int) -> ComparedRun | None:
    one = rounds.get(number)
    if one is None:
        return None
    return ComparedRun(
        outcome=one.outcome,
        counted=one.counted,
        weight=one.weight,
        duration_s=one.duration_s,
        metrics=one.metrics,
        validation=one.validation,
        model=one.model,
    )
