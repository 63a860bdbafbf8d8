"""The base of all that is sent: strict to build, tolerant to read, frozen."""

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """A value on the wire. Readers ignore fields they do not know; nobody changes one after it is made."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    def to_bytes(self) -> bytes:
        """Serialise to compact UTF-8 JSON, leaving out what is None."""
        return self.model_dump_json(exclude_none=True, by_alias=True).encode()
