"""What is remembered of a stack between starts: its hosts, ports and counts (`stack.json`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedbus_local import ports
from fedbus_local.errors import BadDirectory, PortTaken
from fedbus_local.layout import Layout, write_private

CONTROLLERS_DEFAULT = 2
COMBINERS_DEFAULT = 2
INSTANCES_MAX = 64

PUBLIC_PORTS = {"nats": 4222, "websocket": 9222, "s3": 8333, "api": 8080}
"""Ports on the stack's host, with the usual numbers; the flag that sets one is `--<name>-port`."""
PRIVATE_PORTS = {"redis": 6379}
"""Ports on the loopback that have a flag too."""
INNER_PORTS = (
    "nats_monitor",
    *("s3_grpc", "s3_admin", "s3_master", "s3_master_grpc"),
    *("s3_volume", "s3_volume_grpc", "s3_filer", "s3_filer_grpc"),
)
"""Ports on the loopback that nobody outside needs to know: chosen again when one is taken."""
ADMIN_GRPC = "s3_admin_grpc"
ADMIN_GRPC_OFFSET = 10_000
"""A part of SeaweedFS looks for its administration so far above that one's port, whatever the flags say."""

T = TypeVar("T")
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=0, le=INSTANCES_MAX)]


class Plan(BaseModel):
    """A stack as it is to be started. `ports` has one entry a listener, services' health by instance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    host: str = ports.LOOPBACK
    public_host: str = ports.LOOPBACK
    controllers: Count = CONTROLLERS_DEFAULT
    combiners: Count = COMBINERS_DEFAULT
    services: bool = True
    ports: dict[str, Port] = Field(default_factory=dict)

    @property
    def here(self) -> str:
        """The address by which the stack's own processes reach NATS, the store and the api."""
        return ports.reachable_from_here(self.host)

    @property
    def instances(self) -> list[tuple[str, str]]:
        """Each service process as (role, name), in the order of starting."""
        if not self.services:
            return []
        controllers = [("controller", f"controller-{n + 1}") for n in range(self.controllers)]
        combiners = [("combiner", f"combiner-{n + 1}") for n in range(self.combiners)]
        return [*controllers, *combiners, ("api", "api")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a caller asks for; None is "as remembered, or the usual". `services` is not remembered."""

    host: str | None = None
    public_host: str | None = None
    controllers: int | None = None
    combiners: int | None = None
    services: bool = True
    ports: Mapping[str, int] = field(default_factory=dict)
    usual_ports: bool = False


def load(layout: Layout) -> Plan | None:
    """Read what is remembered; None before the first start. Raises `BadDirectory`."""
    try:
        return Plan.model_validate_json(layout.plan.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise BadDirectory(
            f"{layout.plan} is damaged or of another version: {error.errors()[0]['msg']}"
        ) from error


def save(layout: Layout, plan: Plan) -> None:
    """Remember it."""
    write_private(layout.plan, plan.model_dump_json(indent=2) + "\n")


def settle(remembered: Plan | None, wishes: Wishes) -> Plan:
    """Join what is remembered and what is asked, and choose ports for what has none."""
    before = remembered or Plan()
    host = wishes.host or before.host
    plan = before.model_copy(
        update={
            "host": host,
            "public_host": wishes.public_host or _public_host(before, host),
            "controllers": _first(wishes.controllers, before.controllers),
            "combiners": _first(wishes.combiners, before.combiners),
            "services": wishes.services,
            "ports": {**before.ports, **wishes.ports},
        }
    )
    return with_ports(plan, usual=wishes.usual_ports)


def with_ports(plan: Plan, *, usual: bool = False) -> Plan:
    """Choose ports for the listeners of the plan that have none."""
    chosen = dict(plan.ports)

    def need(name: str, host: str, preferred: int | None = None) -> None:
        if name not in chosen:
            chosen[name] = ports.choose(host, set(chosen.values()), preferred if usual else None)

    for name, number in PUBLIC_PORTS.items():
        need(name, plan.host, number)
    for name, number in PRIVATE_PORTS.items():
        need(name, ports.LOOPBACK, number)
    if "s3_admin" not in chosen:
        chosen["s3_admin"] = ports.choose(ports.LOOPBACK, set(chosen.values()), free=_both_free)
    chosen[ADMIN_GRPC] = chosen["s3_admin"] + ADMIN_GRPC_OFFSET
    for name in (*INNER_PORTS, *health_names(plan)):
        need(name, ports.LOOPBACK)
    return plan.model_copy(update={"ports": chosen})


def demand_free(plan: Plan) -> Plan:
    """Check every port of a stack that is about to start. Raises `PortTaken` for one that has a flag."""
    for name in PUBLIC_PORTS:
        if not ports.is_free(plan.host, plan.ports[name]):
            raise PortTaken(plan.ports[name], f"--{name}-port")
    for name in PRIVATE_PORTS:
        if not ports.is_free(ports.LOOPBACK, plan.ports[name]):
            raise PortTaken(plan.ports[name], f"--{name}-port")
    inner = {*INNER_PORTS, *health_names(plan)}
    kept = {
        name: port
        for name, port in plan.ports.items()
        if name not in inner or ports.is_free(ports.LOOPBACK, port)
    }
    return with_ports(plan.model_copy(update={"ports": kept}))


def health_names(plan: Plan) -> list[str]:
    """Name the ports at which services tell their health; the api tells it at its own."""
    return [name for role, name in plan.instances if role != "api"]


def _both_free(host: str, port: int) -> bool:
    return ports.is_free(host, port) and ports.is_free(host, port + ADMIN_GRPC_OFFSET)


def _public_host(before: Plan, host: str) -> str:
    if host == before.host:
        return before.public_host
    return ports.outward_address() if ports.is_every_address(host) else host


def _first(asked: T | None, remembered: T) -> T:
    return remembered if asked is None else asked
