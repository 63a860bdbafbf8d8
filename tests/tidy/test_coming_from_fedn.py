"""The page for those who come from FEDn: each row names a test that is there, or says "not yet"."""

import re
from pathlib import Path

from fedbus.api import APIClient

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "coming-from-fedn.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("| FEDn", "| ---"))
]


def test_each_row_names_a_test_or_says_not_yet() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/e2e").glob("*.py"))
    tests = set(re.findall(r"def (test_\w+)", text))
    assert ROWS
    for row in ROWS:
        named = re.findall(r"`(test_\w+)`", row[-1])
        assert named or row[-1].strip(" |") == "not yet", row
        assert set(named) <= tests, row


def test_a_call_that_is_the_same_is_there_and_one_not_yet_is_not() -> None:
    for row in ROWS:
        calls = re.findall(r"`(\w+)`", row[0])
        for call in calls:
            if row[-1].strip(" |") == "not yet":
                assert not hasattr(APIClient, call), f"{call} is there: say so on the page"
            elif call.startswith(("get_", "set_", "start_", "continue_", "download_", "session_")):
                assert hasattr(APIClient, call), f"{call} is not there"
