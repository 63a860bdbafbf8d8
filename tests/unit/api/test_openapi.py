"""The OpenAPI document in the repository is the one the api gives, and it is complete."""

import json
import re
from pathlib import Path

FILE = Path(__file__).parents[3] / "schemas/fedbus_schemas/generated/openapi.json"


async def test_the_file_is_up_to_date(world) -> None:
    async with world.client() as client:
        given = (await client.get("/openapi.json")).json()
    assert given == json.loads(FILE.read_text()), "run tools/generate_openapi.py"


def test_every_operation_has_a_summary_and_problems() -> None:
    document = json.loads(FILE.read_text())
    names = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert operation["responses"]["default"], path
            names.append(operation["operationId"])
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere() -> None:
    text = FILE.read_text()
    components = json.loads(text)["components"]
    for kind, name in re.findall(r"#/components/(\w+)/(\w+)", text):
        assert name in components[kind]
