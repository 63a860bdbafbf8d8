"""Windows of local time as a policy writes them: `mon-fri 19:00-07:00`, `sat 00:00-24:00`, `22:00-06:00`."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_TIME = r"([01]\d|2[0-4]):([0-5]\d)"
_WINDOW = re.compile(rf"(?:(?P<days>[a-z,-]+) +)?{_TIME}-{_TIME}")
_HOW = "write a window as 'mon-fri 19:00-07:00', 'sat,sun 00:00-24:00' or '22:00-06:00'"


def check_window(text: str) -> str:
    """Refuse what is no window. Raises `ValueError`."""
    _parse(text)
    return text


def check_zone(name: str) -> str:
    """Refuse what is no time zone of this machine. Raises `ValueError`. Empty: the machine's own."""
    if name:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"no time zone {name!r} here; leave it out for this machine's"
            ) from error
    return name


def within(window: str, here: datetime) -> bool:
    """Whether this local time is in the window. One that passes midnight belongs to the day it begins on."""
    days, begin, end = _parse(window)
    minute, day = here.hour * 60 + here.minute, here.weekday()
    if begin < end:
        return day in days and begin <= minute < end
    return (day in days and minute >= begin) or ((day - 1) % 7 in days and minute < end)


def _parse(text: str) -> tuple[frozenset[int], int, int]:
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no window; {_HOW}")
    begin, end = (int(found[place]) * 60 + int(found[place + 1]) for place in (2, 4))
    if begin == end or max(begin, end) > 24 * 60 or begin == 24 * 60:
        raise ValueError(f"{text!r} begins and ends at one time, or after 24:00; {_HOW}")
    return _days(text, found["days"] or "mon-sun"), begin, end


def _days(text: str, written: str) -> frozenset[int]:
    days: set[int] = set()
    for part in written.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"{text!r} names a day that is none of {', '.join(DAYS)}; {_HOW}")
        day, until = DAYS.index(first), DAYS.index(last or first)
        while day != until:
            days.add(day)
            day = (day + 1) % 7
        days.add(until)
    return frozenset(days)
