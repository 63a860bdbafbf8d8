"""The files in schemas/fedbus_schemas/generated are what the code says."""

import json
import re
from types import ModuleType

import pytest
from fedbus_schemas import subjects
from fedbus_schemas.asks import VERBS
from fedbus_schemas.events import EVENT_TYPES
from fedbus_schemas.streams import STREAMS

AGAIN = "the code and the generated files differ: run make schemas"
BY_PEOPLE = {"views"}


def test_the_files_are_up_to_date(tool: ModuleType) -> None:
    made = tool.documents()
    there = {path.name for path in tool.TARGET.glob("*.schema.json")} | {"asyncapi.json"}
    assert there == set(made), AGAIN
    for name, text in made.items():
        assert (tool.TARGET / name).read_text() == text, f"{name}: {AGAIN}"


def test_there_is_a_schema_for_everything_that_crosses_the_wire(tool: ModuleType) -> None:
    made = set(tool.documents())
    assert {f"{kind}.schema.json" for kind in EVENT_TYPES} <= made
    names = [
        *("entry", "cloud-event", "signed-head", "signed-mail", "mail", "train-task"),
        *("validate-task", "receipt", "manifest", "submission", "stored-update", "included-set"),
        *("hello", "welcome", "sync", "synced", "grant-request", "grant", "stored", "answer"),
        *("start-session", "pause-session", "resume-session", "stop-session", "extend-session"),
        *("finish-item", "finish-result", "fold-item", "target-reached", "deadline-fired"),
        *("clients-changed", "validation-report", "refusal-note", "client-record", "credentials"),
    ]
    assert {f"{name}.schema.json" for name in names} <= made


def test_every_reference_leads_somewhere(tool: ModuleType) -> None:
    made = tool.documents()
    for name, text in made.items():
        document = json.loads(text)
        for reference in re.findall(r'"\$ref": "([^"]+)"', text):
            if reference.startswith("./"):
                assert reference[2:] in made
                continue
            place = document
            for step in reference.removeprefix("#/").split("/"):
                assert step in place, f"{name}: {reference}"
                place = place[step]


def test_channels_name_the_stream_that_keeps_them(tool: ModuleType) -> None:
    channels = json.loads(tool.documents()["asyncapi.json"])["channels"]
    kept = {channel.get("x-stream") for channel in channels.values()}
    assert {stream.name for stream in STREAMS} - kept <= {"DEAD"}
    for channel in channels.values():
        assert channel["address"].startswith("fl.{project}.")
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel["parameters"])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_channel_with_an_answer(tool: ModuleType, verb: str) -> None:
    document = json.loads(tool.documents()["asyncapi.json"])
    assert document["channels"][verb]["address"] == subjects.ask("{project}", "{device}", verb)
    assert document["operations"][verb]["reply"]["messages"]
