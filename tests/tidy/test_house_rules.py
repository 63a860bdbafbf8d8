"""The house rules that ruff cannot say: sizes, names, docstrings; and that the pages say what is there."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
from fedbus.cli import gather
from fedbus_schemas.refusals import MEANING, RefusalCode

ROOT = Path(__file__).parents[2]
CODE = ("schemas", "services", "clientsdk", "deploy", "examples", "benchmarks", "tools", "tests")
LINES_MAX, LINES_USUAL_MAX = 600, 400
LONGER = {
    "schemas/fedbus_schemas/views.py": "all that the api shows: one small class a view, no logic",
    "services/core/fedbus_core/rounds/decide.py": "the whole of a session's behaviour, read from the top",
    "tests/contract/test_accounts.py": "the whole attack matrix, which is read as one",
    "tests/e2e/test_bad_clients.py": "one lie a line, read as a table",
    "tests/property/test_round_machine.py": "one state machine with its invariants",
    "tests/simulation/mutations.py": "one planted bug after the other",
    "tests/simulation/world.py": "a whole federation in one loop, read from the top",
    "tests/stacks.py": "a federation on real servers, as all tests of whole stacks drive it",
    "tests/unit/clientsdk/test_client.py": "one client through all that can happen to it",
    "tests/unit/core/rounds/test_decide.py": "one case a decision, read as a table",
    "tools/generate_schemas.py": "the table of all subjects, with who sends what to whom",
}
"""Files over the usual length, each with its reason. It should stay short."""
BANNED = {"manager", "helper", "helpers", "util", "utils", "base", "common", "misc"}
OURS = re.compile(r"fedbus(-[a-z]+)?")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
WORDS = re.compile(r"^(make|fedbus)((?: [a-z]+)+)(?![\w/.-])")

MODULES = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_module_says_what_it_is_for() -> None:
    without = [
        short(path)
        for path in MODULES
        if (text := path.read_text(encoding="utf-8")).strip()
        and not ast.get_docstring(ast.parse(text))
    ]
    assert not without, "a module begins with a line that says what it is for"


def test_files_can_be_read() -> None:
    lengths = {short(path): path.read_text(encoding="utf-8").count("\n") for path in MODULES}
    assert {path: lines for path, lines in lengths.items() if lines > LINES_MAX} == {}
    longer = {path for path, lines in lengths.items() if lines > LINES_USUAL_MAX}
    assert longer <= LONGER.keys(), f"over {LINES_USUAL_MAX} lines: part it, or name it in LONGER"


def test_names_say_something() -> None:
    banned = [short(path) for path in MODULES if set(path.stem.strip("_").split("_")) & BANNED]
    assert not banned, f"a module has a noun for a name, none of {sorted(BANNED)}"


def test_every_example_is_named_in_the_pages() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    examples = [
        each
        for each in sorted((ROOT / "examples").iterdir())
        if not each.name.startswith(("_", "."))
    ]
    assert examples
    unnamed = [each.name for each in examples if f"examples/{each.name}" not in text]
    assert not unnamed


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        assert file.exists(), f"{short(page)} links to {target}, which is not there"
        assert file.is_relative_to(ROOT), f"{short(page)} links out of the repository: {target}"
        if anchor:
            assert anchor in anchors(file), f"{short(page)} links to {target}: no such heading"


def test_every_page_is_on_the_map() -> None:
    text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    named = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in LINK.findall(text)}
    missing = [short(page) for page in PAGES if page.name != "index.md" and page not in named]
    assert not missing, "docs/index.md is the map of all pages"


def test_every_code_has_a_meaning_and_is_documented() -> None:
    page = (ROOT / "docs/reason-codes.md").read_text(encoding="utf-8")
    for code in RefusalCode:
        assert MEANING[code].endswith("."), f"{code} needs a sentence that says what to do"
        assert f"| `{code}` |" in page


@pytest.mark.parametrize("page", [*PAGES, ROOT / "Makefile"], ids=short)
def test_commands_exist(page: Path) -> None:
    for program, *words in commands(page.read_text(encoding="utf-8")):
        if program == "make":
            unknown = [word for word in words if word not in targets()]
            assert not unknown, f"{short(page)}: make {' '.join(words)}"
        else:
            assert is_command(words), f"{short(page)}: fedbus {' '.join(words)}"


def test_every_target_has_a_recipe() -> None:
    declared = re.search(r"^\.PHONY: (.*)$", makefile(), re.MULTILINE)
    assert declared is not None
    assert set(declared[1].split()) == targets()


def test_every_dependency_has_its_line() -> None:
    page = (ROOT / "docs/decisions/0009-dependencies.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([A-Za-z0-9._-]+)`", page))
    used = {name for name in dependencies() if not OURS.fullmatch(name)}
    assert used - listed == set(), "a dependency needs a line with its reason"
    rows = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(.*?)`", row)}
    assert named - used == set(), "these are not used any more"


def test_pages_name_no_machine() -> None:
    for page in PAGES:
        found = re.search(r"/(?:work|home|root|Users)/\S*", page.read_text(encoding="utf-8"))
        assert found is None, f"{short(page)} names a place on somebody's machine: {found}"


@cache
def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", makefile(), re.MULTILINE))


@cache
def anchors(file: Path) -> set[str]:
    """The places in a page that a link can name, as the forges make them from headings."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> Iterator[list[str]]:
    """Give the `make` and `fedbus` commands in code blocks and between backticks."""
    blocks = re.findall(r"^```(?:sh|text)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    recipes = re.findall(r"^\t@?(?:\$\(BIN\)/)?(.*)$", text, re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    quoted = re.findall(r"`([^`\n]+)`", prose)
    for line in [*"\n".join(blocks).splitlines(), *recipes, *quoted]:
        found = WORDS.match(line.strip().removeprefix("$ "))
        if found:
            yield [found[1], *found[2].split()]


@cache
def command_names() -> frozenset[tuple[str, ...]]:
    """All commands and groups of the installed parts."""
    names: set[tuple[str, ...]] = set()

    def walk(command: object, path: tuple[str, ...]) -> None:
        names.add(path)
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*path, name))

    walk(typer.main.get_command(gather(entry_points(group="fedbus.commands"))), ())
    return frozenset(names)


def is_command(words: list[str]) -> bool:
    """Whether the first words name a command; what follows one are its arguments."""
    names = command_names()
    if (words[0],) not in names:
        return False
    is_group = any(len(name) == 2 and name[0] == words[0] for name in names)
    return not is_group or len(words) == 1 or (words[0], words[1]) in names


def dependencies() -> Iterator[str]:
    """Give every package that a pyproject or a requirements file names."""
    for folder in ("schemas", "services", "clientsdk", "deploy"):
        for path in (ROOT / folder).rglob("pyproject.toml"):
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            project = content["project"]
            groups = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
            for line in [*content["build-system"]["requires"], *(one for g in groups for one in g)]:
                yield first_name(line)
    for path in (ROOT / "requirements").glob("*.in"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-r")):
                yield first_name(line)


def first_name(line: str) -> str:
    found = NAME.match(line)
    assert found is not None, line
    return found[0]
