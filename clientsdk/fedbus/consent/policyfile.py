"""The policy file: read strictly, refused when others can write it, read again when it has changed."""

import difflib
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel, ValidationError

from fedbus.consent.policy import Denied, Policy
from fedbus.errors import BadPolicy

BYTES_MAX = 256 * 1024

Mark: TypeAlias = tuple[int, int, int, int]
"""What tells that a file is another one: inode, length, times of content and of state."""


class PolicyFile:
    """The owner's file while a client runs. Looked at when a task comes, never in between."""

    def __init__(self, path: Path) -> None:
        """Read it. Raises `BadPolicy`: a client does not start on a policy that cannot be read."""
        self.path = path
        self._policy, self._mark = _read(path)

    def current(self) -> tuple[Policy | Denied, bool]:
        """Give the policy as it is now, and whether it has changed since the last look.

        A file that cannot be read any more denies everything, until it can be.
        """
        try:
            with self.path.open("rb") as file:
                if _mark(os.fstat(file.fileno())) == self._mark:
                    return self._policy, False
            self._policy, self._mark = _read(self.path)
        except (OSError, BadPolicy) as error:
            self._mark = (0, 0, 0, 0)
            return Denied("policy.unreadable", str(error)[:512]), False
        return self._policy, True


def load(path: Path) -> Policy:
    """Read a policy file. Raises `BadPolicy`."""
    return _read(path)[0]


def parse(text: str, name: str = "policy") -> Policy:
    """Read a policy's text. Raises `BadPolicy` with the line of each fault and what to write there."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadPolicy(f"{name} is not TOML: {error}") from error
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        lines = [
            _fault(
                text,
                name,
                [str(part) for part in one["loc"]],
                one["type"],
                one["msg"],
                one["input"],
            )
            for one in error.errors(include_url=False)
        ]
        raise BadPolicy("\n".join(lines)) from error


def _read(path: Path) -> tuple[Policy, Mark]:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            _check_writers(path, found)
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise BadPolicy(f"the policy {path} cannot be read: {error}") from error
    if len(data) > BYTES_MAX:
        raise BadPolicy(f"the policy {path} is longer than {BYTES_MAX} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadPolicy(f"the policy {path} is not UTF-8 text") from error
    return parse(text, str(path)), _mark(found)


def _mark(found: os.stat_result) -> Mark:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _check_writers(path: Path, found: os.stat_result) -> None:
    """Refuse a policy that somebody else than its owner, this user or root, could write or replace."""
    if os.name != "posix":
        return
    if not stat.S_ISREG(found.st_mode):
        raise BadPolicy(f"the policy {path} is not a plain file")
    ours = (0, os.geteuid())
    folder = path.resolve().parent
    around = folder.stat()
    if found.st_uid not in ours or around.st_uid not in ours:
        raise BadPolicy(f"the policy {path} or its folder belongs to another user than you or root")
    if found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise BadPolicy(f"others can write the policy {path} (mode {mode:04o}): chmod go-w {path}")
    if around.st_mode & 0o022 and not around.st_mode & stat.S_ISVTX:
        raise BadPolicy(f"others can replace the policy {path}: chmod go-w {folder}")


def _fault(text: str, name: str, place: list[str], kind: str, message: str, value: object) -> str:
    where = f"{name}, line {_line(text, place)}"
    dotted = ".".join(place)
    if kind != "extra_forbidden":
        said = message.removeprefix("Value error, ")
        return f"{where}: {dotted}: {said}, not {value!r:.80}"
    known = _known(place[:-1])
    close = difflib.get_close_matches(place[-1], known, 1)
    hint = f"write {close[0]!r}" if close else f"there are {', '.join(known)}"
    what = "table" if len(place) == 1 else f"key in [{'.'.join(place[:-1])}]"
    return f"{where}: {place[-1]!r} is no {what}; {hint}"


def _known(place: list[str]) -> list[str]:
    kind: type[BaseModel] = Policy
    for one in place:
        inner = kind.model_fields[one].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        kind = inner
    return [field.alias or name for name, field in kind.model_fields.items()]


def _line(text: str, place: list[str]) -> int:
    """Find the line of a key: tomllib tells values only. The first line when it is not found."""
    table, key = place[0], place[1] if len(place) > 1 else ""
    inside, at_table = False, 1
    for number, line in enumerate(text.splitlines(), 1):
        said = line.strip()
        header = re.match(r"\[\s*\"?([^\]\"]+?)\"?\s*\]", said)
        if header:
            inside = header[1].partition(".")[0].strip() == table
            at_table = number if inside else at_table
        elif re.match(rf"\"?{re.escape(table)}\"?\s*(=|\.)", said):
            return number
        if inside and key and re.match(rf"\"?{re.escape(key)}\"?\s*(=|\.)", said):
            return number
    return at_table
