"""Calls of server functions on three small updates."""

from dataclasses import dataclass
from textwrap import dedent, indent

import numpy as np
from fedbus_core.aggregation.rules.rule import Member
from fedbus_core.aggregation.server_functions import Aggregate, Answer, Given, methods_of
from fedbus_core.aggregation.tensorfile import parse_layout, views, write
from fedbus_sandbox.host import run
from fedbus_schemas.models import BlobRef
from fedbus_schemas.sessions import ServerFunctions

MEAN = """
class ServerFunctions(ServerFunctionsBase):
    def __init__(self):
        self.rounds = 0
        self.seen = {}

    def aggregate(self, previous_global, client_updates):
        self.rounds += 1
FIRST
        total = [np.zeros_like(one) for one in previous_global]
        examples = 0
        for client, (parameters, metadata) in client_updates.items():
            self.seen[client] = self.seen.get(client, 0) + metadata["num_examples"]
            examples += metadata["num_examples"]
            for place, one in enumerate(parameters):
                total[place] += one * metadata["num_examples"]
        print("round", self.rounds)
        return [one / examples for one in total]
"""


def mean_after(first: str = "pass") -> str:
    """The weighted mean, by code that does something else first."""
    return MEAN.replace("FIRST", indent(dedent(first), 8 * " "))


@dataclass(frozen=True)
class Kept:
    data: bytes

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def call(
    source: str, state: bytearray | None = None, names: str = "01", **limits: float
) -> tuple[Answer, dict[str, list[float]]]:
    """Run it on updates of values 0, 1, 2 with 1, 2, 3 examples; give the model's arrays as lists, too."""
    first, second = list(names)

    def model(value: float) -> bytes:
        return write(
            {first: np.full(4, value, np.float32), second: np.full((2, 2), value, np.float32)}
        )

    updates = []
    for place in range(3):
        data = model(place)
        updates.append(Given(Member(f"c{place}", place + 1, {"loss": 0.5}), Kept(data), len(data)))
    functions = ServerFunctions.model_validate(
        {"code": BlobRef(digest="0" * 64, size=1), "methods": methods_of(source.encode()), **limits}
    )
    answer = run(Aggregate(functions, source.encode(), model(0.0), updates, state, 7))
    arrays = views(parse_layout(answer.model, len(answer.model)), answer.model)
    return answer, {name: one.ravel().tolist() for name, one in arrays.items()}
