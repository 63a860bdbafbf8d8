"""What server functions are given, what they may give back, and what they remember."""

from typing import Any

import numpy as np
import pytest
from fedbus_core.aggregation.server_functions import (
    Aggregate,
    FunctionFailed,
    SourceError,
    methods_of,
)
from fedbus_core.aggregation.tensorfile import parse_layout, views, write
from fedbus_sandbox import memory
from fedbus_sandbox.host import run
from fedbus_schemas.models import BlobRef
from fedbus_schemas.sessions import ServerFunctions

from tests.unit.sandbox.calls import call, mean_after

INCREMENTAL = """
class ServerFunctions(ServerFunctionsBase):
    def incremental_aggregate(self, client_id, model, client_metadata, previous_global):
        self.clients = [*getattr(self, "clients", []), client_id]
        before = getattr(self, "sum", [0] * len(model))
        self.sum = [one + old for one, old in zip(model, before)]

    def get_incremental_aggregate_model(self):
        made = [one / len(self.clients) for one in self.sum]
        self.clients = []
        del self.sum
        return made
"""
NAMED = """
class ServerFunctions:
    def aggregate(self, previous_global, client_updates):
        return {name: max(one[0][name].max() for one in client_updates.values()) + 0 * old
                for name, old in previous_global.items()}
"""


def test_aggregates_with_what_clients_reported() -> None:
    answer, model = call(mean_after())
    assert model == {"0": [pytest.approx(8 / 6)] * 4, "1": [pytest.approx(8 / 6)] * 4}
    assert answer.printed == ("round 1",)


def test_aggregates_update_by_update() -> None:
    _, model = call(INCREMENTAL)
    assert model["0"] == [1.0] * 4


def test_a_model_with_names_comes_as_a_dictionary() -> None:
    _, model = call(NAMED, names="wb")
    assert model == {"b": [2.0] * 4, "w": [2.0] * 4}


def test_gives_every_type_as_it_was() -> None:
    source = """
class ServerFunctions:
    def aggregate(self, previous_global, client_updates):
        assert previous_global["half"].dtype == np.float32, "bfloat16 comes as float32"
        return {**previous_global, "half": previous_global["half"] + 1.0}
"""
    base = write(
        {
            "empty": np.zeros((0, 3), np.float32),
            "flags": np.array([True, False]),
            "half": np.array([0x3F80, 0x4049], np.uint16),  # 1 and 3.140625
            "steps": np.array([7], np.int64),
        },
        bf16=["half"],
    )
    functions = ServerFunctions(
        code=BlobRef(digest="0" * 64, size=1), methods=methods_of(source.encode())
    )
    answer = run(Aggregate(functions, source.encode(), base, [], None, 7))
    layout = parse_layout(answer.model, len(answer.model))
    assert layout == parse_layout(base, len(base))
    found = views(layout, answer.model)
    assert found["half"].tolist() == [0x4000, 0x4084]  # 2, and 4.140625 to nearest even
    assert found["flags"].tolist() == [True, False]
    assert found["steps"].tolist() == [7]


def test_remembers_from_call_to_call() -> None:
    first, _ = call(mean_after())
    second, _ = call(mean_after(), first.state)
    assert second.printed == ("round 2",)
    assert memory.decode(second.state)["seen"] == {"c0": 2, "c1": 4, "c2": 6}


def test_chance_is_the_sessions() -> None:
    source = mean_after("self.drawn = (random.random(), float(np.random.random()))")
    first, second = call(source)[0], call(source)[0]
    assert bytes(first.state) == bytes(second.state)


def test_any_attributes_of_plain_kinds_come_back() -> None:
    attributes = {
        "none": None,
        "yes": True,
        "text": "ä",
        "number": 2**80,
        "part": 0.1,
        "nested": [{"a": (1, [np.arange(3)])}, {}],
        "by_number": {1: np.zeros((0, 2))},
        "flags": np.array([True, False]),
        "looks like ours": {"array": 0, "list": [1]},
    }
    found: dict[str, Any] = memory.decode(memory.encode(attributes))
    assert found["nested"][0]["a"][1][0].tolist() == [0, 1, 2]
    assert found["by_number"][1].shape == (0, 2)
    for name in ("none", "yes", "text", "number", "part", "looks like ours"):
        assert found[name] == attributes[name]
    assert memory.encode(found) == memory.encode(attributes)


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("raise ValueError('mine')", r"line 9: raise ValueError\('mine'\): ValueError: mine"),
        ("return [np.zeros(4)]", "gave 0 arrays of other names"),
        (
            "return [np.zeros(5), np.zeros((2, 2))]",
            r"'0' was given with shape \(5,\), the model has \(4,\)",
        ),
        ("return [np.full(4, np.nan), np.zeros((2, 2))]", "NaN or infinite"),
        ("return [np.array(['a'] * 4), np.zeros((2, 2))]", "is no number"),
        ("return 3", "gave int, not a list of arrays"),
        ("return [np.full(4, 1e300), np.zeros((2, 2))]", "beyond F32"),
        ("self.kept = lambda: 1", "self.kept is a function, which cannot be kept"),
        ("def again(): again()\nagain()", "RecursionError"),
        ("os._exit(0)", "ended with 0"),
        ("raise SystemExit(3)", "SystemExit"),
    ],
)
def test_a_failure_names_the_users_own_line(first: str, told: str) -> None:
    with pytest.raises(FunctionFailed, match=told):
        call(mean_after(first))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = (", "line 1"),
        ("def aggregate(): pass", "no class ServerFunctions"),
        ("class ServerFunctions:\n def helper(self): pass", "defines none of"),
        (
            "class ServerFunctions:\n def incremental_aggregate(self): pass",
            "together or not at all",
        ),
        ("#" * 300_000, "over 262144"),
        ("class ServerFunctions:\n x = 'def aggregate'", "defines none of"),
    ],
)
def test_a_source_is_looked_at_first(source: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        methods_of(source.encode())
