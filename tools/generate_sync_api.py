"""Writes `fedbus/api/_sync` from `fedbus/api/_async`.

Both clients are one code: the asynchronous one is written by hand, the other one is this translation.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
API = ROOT / "clientsdk" / "fedbus" / "api"
SOURCE, TARGET = API / "_async", API / "_sync"
CONFIG = [
    "--config",
    str(ROOT / "pyproject.toml"),
    "--config",
    'lint.isort.known-first-party=["fedbus"]',
]
HEAD = (
    "# Written by tools/generate_sync_api.py from _async/{name} (make schemas): change that one.\n"
)

WORDS = (
    (r"await asyncio\.to_thread\(\s*([\w.]+),?\s*", r"\1("),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bimport asyncio\b", "import time"),
    (r"(?<!`)\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\bhttpx\.AsyncClient\b", "httpx.Client"),
    (r"\bAsync(?=[A-Z])(?!APIClient`)", ""),
    (r"\b_async\b", "_sync"),
    (r"\b__a(enter|exit)__", r"__\1__"),
    (r"\ba(close|read|iter_lines|iter_bytes)\(", r"\1("),
)


def main() -> None:
    """Write the files."""
    TARGET.mkdir(exist_ok=True)
    wanted = made()
    for path in TARGET.glob("*.py"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (TARGET / name).write_text(text, encoding="utf-8")


def made() -> dict[str, str]:
    """Give the files' texts by their names."""
    with tempfile.TemporaryDirectory() as folder:
        for path in SOURCE.glob("*.py"):
            text = path.read_text(encoding="utf-8")
            head = HEAD.format(name=path.name) if text else ""
            (Path(folder) / path.name).write_text(head + translated(text), encoding="utf-8")
        for step in (["check", "--select", "I", "--fix"], ["format"]):
            ruff = [sys.executable, "-m", "ruff", *step, "--quiet", *CONFIG, folder]
            subprocess.run(ruff, check=True)  # noqa: S603  # our own formatter
        return {path.name: path.read_text(encoding="utf-8") for path in Path(folder).glob("*.py")}


def translated(text: str) -> str:
    """Give the synchronous form of a module."""
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    return text if "time." in text else text.replace("import time\n", "")


if __name__ == "__main__":
    main()
