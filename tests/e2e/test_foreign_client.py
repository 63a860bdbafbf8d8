"""A client written from the wire contract's page, without anything of fedbus, takes part in real rounds."""

import ast
import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fedbus_local.stack import LocalStack
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.events import RoundCompleted

from tests.stacks import WAIT_S, Federation, Json, eventually, federation
from tests.trainers import LARGE, TINY

FOREIGN = Path(__file__).parents[2] / "examples/foreign_client"


class Foreign:
    """The foreign client's process, and what it said."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.lines: list[list[str]] = []

    async def says(self, *words: str) -> list[str]:
        """Wait for a line that begins with these words."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while line := await self._process.stdout.readline():
                self.lines.append(line.decode().split())
                if self.lines[-1][: len(words)] == [*words]:
                    return self.lines[-1]
        raise AssertionError(f"it ended before it said {words}; it said {self.lines}")


@asynccontextmanager
async def foreign(
    fed: Federation, credentials: Credentials, folder: Path
) -> AsyncIterator[Foreign]:
    """Run the client where nothing but the standard library can be imported (`-S`)."""
    file = folder / "foreign.json"
    await asyncio.to_thread(fed.stack.write_credentials, credentials, file)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-E", str(FOREIGN / "client.py"), str(file), stdout=PIPE
    )
    try:
        await fed.online(len(fed.sites) + 1)
        yield Foreign(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("model", [TINY, LARGE], ids=["in the messages", "by the object store"])
async def test_it_trains_validates_and_is_counted(
    stack: LocalStack, tmp_path: Path, model: Mapping[str, Json]
) -> None:
    async with federation(stack, clients=1) as fed:
        made = (await asyncio.to_thread(stack.make_credentials, ["foreign"], fed.project))[0]
        async with foreign(fed, made, tmp_path) as client:
            session = await fed.start(model, rounds=2, minimum=2)
            pseudonym = (await client.says("hello"))[1]
            last = await fed.ended(session)
            for number in ("1", "2"):
                await client.says("stored", session, number)
                receipt = await client.says("receipt", session, number)
                assert receipt[3] == "counted"
            assert receipt[4] == last
            await client.says("reported", session, "2")

            async def reported() -> bool:
                page = await fed.ask("GET", "/v1/validations", params={"session": session})
                rounds = [one["round"] for one in page["items"] if one["client"] == pseudonym]
                return sorted(rounds) == [1, 2]

            await eventually(reported, "both validations are there")
        events = await fed.assert_sound(session)
        counted = [one.counted for one in events if isinstance(one, RoundCompleted)]
        assert [pseudonym in names and len(names) == 2 for names in counted] == [True, True]
        assert not [line for line in client.lines if line[0] in ("noise", "refused")]


def test_it_imports_nothing_but_the_standard_library() -> None:
    own = {file.stem for file in FOREIGN.glob("*.py")}
    for file in FOREIGN.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names | own, f"{file.name}: {name}"
