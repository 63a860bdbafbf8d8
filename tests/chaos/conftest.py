"""Chaos runs on a stack of their own. Whatever is killed there is started again, so it serves them all."""

from collections.abc import Iterator

import pytest
from fedbus_local.stack import LocalStack

from tests.chaos.plays import MEASURED

TIMEOUT_S = 240
"""A test plays two sessions, waits for processes to be started again, and may have to start the stack."""

ADDED = "added"
_added: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/chaos/" in item.path.as_posix():
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Gather what the tests measured, also those that other processes ran."""
    if report.when == "teardown":
        _added.extend(str(value) for name, value in report.user_properties if name == ADDED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _added:
        terminalreporter.section("seconds that each fault added to its round")
        for line in sorted(_added):
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _hand_on_what_was_measured(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    request.node.user_properties.extend((ADDED, line) for line in MEASURED)
    MEASURED.clear()


@pytest.fixture(scope="session")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    place = tmp_path_factory.mktemp("chaos") / "stack"
    with LocalStack(place, controllers=2, combiners=2) as running:
        yield running


@pytest.fixture
def stack(own_stack: LocalStack) -> Iterator[LocalStack]:
    """The stack, healthy before and after each test."""
    own_stack.wait_healthy()
    yield own_stack
    own_stack.wait_healthy()
