"""The commands of `fedbus`, run in this process against a federation's api."""

from importlib.metadata import entry_points

from fedbus import cli
from fedbus.errors import FedbusError
from fedbus.exit_codes import exit_code
from typer.testing import CliRunner

from tests.stacks import Federation

APP = cli.gather(entry_points(group=cli.GROUP))


def environment(fed: Federation) -> dict[str, str]:
    """Say whom to ask, as variables."""
    return {
        "FEDBUS_API_URL": fed.stack.api_url,
        "FEDBUS_API_TOKEN": fed.stack.api_token,
        "FEDBUS_PROJECT": fed.project,
    }


def flags(fed: Federation) -> tuple[object, ...]:
    """Say whom to ask, as options."""
    token_file = fed.stack.layout.keys / "api.token"
    return "--api", fed.stack.api_url, "--token-file", token_file, "--project", fed.project


def say(given: dict[str, str], *words: object, code: int = 0) -> str:
    """Run a command and give what it printed."""
    done = CliRunner().invoke(APP, [str(word) for word in words], env=given)
    ended = done.exit_code
    if isinstance(done.exception, FedbusError):
        ended = exit_code(done.exception)
    assert ended == code, (words, done.output, done.exception)
    return done.stdout
