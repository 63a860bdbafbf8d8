"""Every code has a meaning that says what to do, and stands in the page of codes."""

from pathlib import Path

import pytest
from fedbus_schemas.refusals import MEANING, Refusal, RefusalCode

PAGE = Path(__file__).parents[3] / "docs/reason-codes.md"


@pytest.mark.parametrize("code", RefusalCode)
def test_a_code_has_a_meaning(code: RefusalCode) -> None:
    meaning = Refusal(code=code).meaning
    assert meaning == MEANING[code]
    assert meaning.endswith(".")
    assert meaning[0].isupper()
    assert len(meaning) > 20


@pytest.mark.parametrize("code", RefusalCode)
def test_a_code_is_documented(code: RefusalCode) -> None:
    assert f"`{code}`" in PAGE.read_text()


def test_no_two_codes_say_the_same() -> None:
    assert len(set(MEANING.values())) == len(RefusalCode) == len(MEANING)


def test_a_code_is_its_name_in_small_letters() -> None:
    assert all(code.value == code.name.lower() for code in RefusalCode)
