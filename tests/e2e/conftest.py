"""One running stack for all e2e tests; each of them has a project of its own on it."""

import logging
from collections.abc import Iterator

import pytest
from fedbus_local.stack import LocalStack

from tests.stacks import Lines


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    place = tmp_path_factory.mktemp("e2e") / "stack"
    with LocalStack(place, controllers=2, combiners=2) as running:
        yield running


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What the clients log."""
    handler, logger = Lines(), logging.getLogger("fedbus")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)
