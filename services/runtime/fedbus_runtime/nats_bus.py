"""NATS as the services use it: one connection with its three ports."""

from typing import Self

from fedbus_runtime.nats_connection import ASK_TIMEOUT_S, NatsConnection, NatsOptions
from fedbus_runtime.nats_deliveries import NatsDeliveries
from fedbus_runtime.nats_streams import NatsStreams
from fedbus_runtime.nats_wire import NatsWire


class NatsBus:
    """A connection and the ports over it: `streams`, `deliveries`, `wire`."""

    def __init__(self, connection: NatsConnection, replicas: int = 1) -> None:
        self.connection = connection
        self.streams = NatsStreams(connection)
        self.deliveries = NatsDeliveries(connection, replicas)
        self.wire = NatsWire(connection)

    @classmethod
    async def connect(
        cls, options: NatsOptions, *, replicas: int = 1, timeout_s: float = ASK_TIMEOUT_S
    ) -> Self:
        """Connect, or raise `BusAway` when that takes longer than `timeout_s`."""
        return cls(await NatsConnection.open(options, timeout_s), replicas)

    async def close(self) -> None:
        """Give back what nobody has taken, send what is pending, and close."""
        await self.deliveries.stop()
        await self.connection.close()
