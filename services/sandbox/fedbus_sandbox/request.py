"""What the host writes for the guest and reads from it, all of it in one folder."""

from typing import Annotated

from fedbus_schemas.ids import Metrics
from fedbus_schemas.sessions import ServerMethod
from fedbus_schemas.wire import Message
from pydantic import Field

REQUEST = "request.json"
SOURCE = "server_functions.py"
BASE = "base.tensors"
STATE = "state.tensors"
MODEL_OUT = "model.out"
STATE_OUT = "state.out"
REPORT = "report.json"
OUTPUTS = (MODEL_OUT, STATE_OUT, REPORT)
PRINTED_LINES_MAX = 100
PRINTED_CHARS_MAX = 255


def update_name(place: int) -> str:
    """Name the file of the update at this place."""
    return f"update{place:05d}.tensors"


class GivenUpdate(Message):
    """An update's client and what it reported; the files are in the same order."""

    client: str
    examples: int
    metrics: Metrics


class Request(Message):
    """One call."""

    host: int
    methods: tuple[ServerMethod, ...]
    updates: tuple[GivenUpdate, ...]
    seed: int
    has_state: bool
    memory: Annotated[int, Field(ge=1)]
    file: Annotated[int, Field(ge=1)]
    processor_s: Annotated[int, Field(ge=1)]


class Report(Message):
    """How the call went. `failure` is empty when it went well; else it ends with the user's own line."""

    failure: str = ""
    printed: tuple[str, ...] = ()
