"""NATS as the services use it: one connection with its three ports."""

from typing import Self

from fedbus_runtime.nats_connection import ASK_TIMEOUT_S, NatsConnection, NatsOptions
from fedbus_runtime.nats_deliveries import PULL_LIFETIME_S, NatsDeliveries
from fedbus_runtime.nats_streams import NatsStreams
from fedbus_runtime.nats_wire import NatsWire


class NatsBus:
    """A connection and the ports over it: `streams`, `deliveries`, `wire`."""

    def __init__(
        self,
        connection: NatsConnection,
        *,
        replicas: int = 1,
        fetch_wait_s: float = PULL_LIFETIME_S,
    ) -> None:
        self.connection = connection
        self.streams = NatsStreams(connection)
        self.deliveries = NatsDeliveries(connection, replicas, fetch_wait_s)
        self.wire = NatsWire(connection)

    @classmethod
    async def connect(
        cls,
        options: NatsOptions,
        *,
        replicas: int = 1,
        timeout_s: float = ASK_TIMEOUT_S,
        fetch_wait_s: float = PULL_LIFETIME_S,
    ) -> Self:
        """Connect, or raise `BusAway` when that takes longer than `timeout_s`.

        `replicas` is for the streams that are prepared; `fetch_wait_s` is how long an empty fetch waits.
        """
        connection = await NatsConnection.open(options, timeout_s)
        return cls(connection, replicas=replicas, fetch_wait_s=fetch_wait_s)

    async def close(self) -> None:
        """Give back what nobody has taken, send what is pending, and close."""
        await self.deliveries.stop()
        await self.connection.close()
