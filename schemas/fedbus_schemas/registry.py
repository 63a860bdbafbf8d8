"""Records outside the log that may be erased: who a pseudonym is, and models that were uploaded."""

from typing import Annotated

from pydantic import AwareDatetime, StringConstraints

from fedbus_schemas.ids import ClientId, DeviceKey, PublicKey
from fedbus_schemas.models import ModelRef
from fedbus_schemas.wire import Message


class ClientRecord(Message):
    """Resolves a pseudonym. `key` is bound at the first hello and never changes."""

    device: DeviceKey
    client: ClientId
    name: Annotated[str, StringConstraints(max_length=128)]
    key: PublicKey
    since: AwareDatetime


class ModelRecord(Message):
    """A model that somebody uploaded as a start."""

    model: ModelRef
    name: Annotated[str, StringConstraints(max_length=128)] = ""
    since: AwareDatetime
