"""All servers in memory: the twins of the adapters, wired together for simulations and tests.

world = MemoryWorld(ManualClock())
await world.bus.deliveries.prepare(STREAMS, CONSUMERS)
service_ports = world.connections()
"""

from fedbus_schemas.ids import DeviceKey

from fedbus_runtime.connections import Connections
from fedbus_runtime.memory_blobs import MemoryBlobs, MemoryGrants
from fedbus_runtime.memory_deliveries import FETCH_WAIT_S, MemoryConsumers, MemoryDeliveries
from fedbus_runtime.memory_records import (
    MemoryDocuments,
    MemoryPresence,
    MemoryRedis,
    MemoryRoundRecords,
    MemoryTransfers,
)
from fedbus_runtime.memory_streams import MemoryServer, MemoryStreams
from fedbus_runtime.memory_wire import Desks, MemoryWire
from fedbus_runtime.pieced_blobs import PiecedBlobs
from fedbus_runtime.ports import Clock


class MemoryBus:
    """The ports over one memory server; every process of a simulation may share it."""

    def __init__(self, clock: Clock, fetch_wait_s: float = FETCH_WAIT_S) -> None:
        self.server = MemoryServer(clock)
        self._desks = Desks()
        self.streams = MemoryStreams(self.server)
        self.deliveries = MemoryDeliveries(MemoryConsumers(self.server), clock, fetch_wait_s)
        self.wire = MemoryWire(self.server, self._desks)

    def wire_of(self, device: DeviceKey) -> MemoryWire:
        """Give the wire of a client, whose requests carry its device key."""
        return MemoryWire(self.server, self._desks, device)


class MemoryWorld:
    """Bus, records and store of one simulation."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.bus = MemoryBus(clock)
        self.redis = MemoryRedis()
        self.blobs = MemoryBlobs()
        self.blobs.now = clock.now

    def connections(self) -> Connections:
        """Give the ports that a service gets."""
        return Connections(
            streams=self.bus.streams,
            deliveries=self.bus.deliveries,
            wire=self.bus.wire,
            blobs=PiecedBlobs(self.blobs),
            grants=MemoryGrants(self.blobs),
            records=MemoryRoundRecords(self.redis),
            presence=MemoryPresence(self.redis),
            documents=MemoryDocuments(self.redis),
            transfers=MemoryTransfers(self.redis),
            clock=self.clock,
        )
