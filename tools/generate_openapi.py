"""Writes the api's OpenAPI document: `python tools/generate_openapi.py`. A test fails on drift."""

import json
from pathlib import Path
from types import SimpleNamespace

from fedbus_api.app import create_app

TARGET = Path(__file__).parents[1] / "schemas/fedbus_schemas/generated/openapi.json"


def document() -> str:
    """Give the document as it lies in the file. No part of an api is needed for it."""
    app = create_app(SimpleNamespace(access=None))  # type: ignore[arg-type]  # no route is called
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the file."""
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(document())


if __name__ == "__main__":
    main()
