"""The important stories of a session, as text: `pytest --rewrite` writes them anew, a person reads the diff."""

from pathlib import Path

import pytest

from tests.round_transcripts import replay

FOLDER = Path(__file__).parents[3] / "transcripts"
STORIES = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_a_story_goes_as_it_is_written(story: Path, request: pytest.FixtureRequest) -> None:
    text = story.read_text()
    now = replay(text)
    if request.config.getoption("--rewrite"):
        story.write_text(now)
    else:
        assert now == text


def test_there_are_stories() -> None:
    assert len(STORIES) >= 10
