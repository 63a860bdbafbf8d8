"""Ports, hosts and counts: chosen once, remembered, and told clearly when one is taken."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fedbus_local import plan, ports
from fedbus_local.errors import BadDirectory, PortTaken
from fedbus_local.layout import Layout
from fedbus_local.plan import Wishes


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout.at(tmp_path / "stack")
    made.make()
    return made


@pytest.fixture
def stranger() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_ports_are_chosen_once_and_remembered(layout: Layout) -> None:
    first = plan.settle(plan.load(layout), Wishes(controllers=1, combiners=3))
    plan.save(layout, first)
    assert plan.settle(plan.load(layout), Wishes()) == first


def test_every_listener_has_a_port_of_its_own() -> None:
    settled = plan.settle(None, Wishes(combiners=8))
    assert len(set(settled.ports.values())) == len(settled.ports)
    assert {f"combiner-{n}" for n in range(1, 9)} <= settled.ports.keys()


def test_remembered_ports_lie_below_those_of_outgoing_connections() -> None:
    settled = plan.settle(None, Wishes())
    own = [port for name, port in settled.ports.items() if name != plan.ADMIN_GRPC]
    assert all(ports.FIRST <= port < ports.LAST for port in own)


def test_what_is_asked_replaces_what_is_remembered(layout: Layout) -> None:
    before = plan.settle(None, Wishes())
    after = plan.settle(before, Wishes(combiners=5, ports={"nats": 20_001}))
    assert (after.combiners, after.controllers) == (5, before.controllers)
    assert after.ports["nats"] == 20_001
    assert after.ports["s3"] == before.ports["s3"]


def test_servers_only_is_not_remembered() -> None:
    alone = plan.settle(None, Wishes(services=False))
    assert alone.instances == []
    assert plan.settle(alone, Wishes()).instances[-1] == ("api", "api")


@pytest.mark.parametrize("name", ["nats", "redis", "s3", "api"])
def test_a_taken_port_is_named_with_its_flag(name: str, stranger: int) -> None:
    settled = plan.settle(None, Wishes(ports={name: stranger}))
    with pytest.raises(PortTaken, match=rf"port {stranger} .* --{name}-port") as told:
        plan.demand_free(settled)
    assert told.value.exit_code == 4


def test_a_taken_inner_port_is_chosen_again(stranger: int) -> None:
    settled = plan.settle(None, Wishes(ports={"s3_filer": stranger, "combiner-1": stranger}))
    free = plan.demand_free(settled)
    assert stranger not in free.ports.values()
    assert free.ports["nats"] == settled.ports["nats"]


def test_a_usual_port_is_taken_when_it_is_free(stranger: int) -> None:
    assert ports.choose("127.0.0.1", set(), 4222, free=lambda _host, _port: True) == 4222
    assert ports.choose("127.0.0.1", set(), stranger) != stranger
    assert ports.choose("127.0.0.1", {4222}, 4222, free=lambda _host, _port: True) != 4222


def test_without_any_free_port_it_gives_up() -> None:
    with pytest.raises(ports.NoFreePort):
        ports.choose("127.0.0.1", set(), free=lambda _host, _port: False)


def test_an_open_host_is_reached_over_the_loopback_and_told_outwards() -> None:
    settled = plan.settle(None, Wishes(host="0.0.0.0", public_host="10.0.0.7"))
    assert (settled.here, settled.public_host) == ("127.0.0.1", "10.0.0.7")
    assert plan.settle(settled, Wishes()).public_host == "10.0.0.7"
    assert plan.settle(settled, Wishes(host="127.0.0.1")).public_host == "127.0.0.1"


def test_a_damaged_plan_says_where(layout: Layout) -> None:
    layout.plan.write_text('{"version": 2}')
    with pytest.raises(BadDirectory, match=r"stack\.json is damaged or of another version"):
        plan.load(layout)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadDirectory, match="was not made by fedbus"):
        Layout.at(tmp_path).make()
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]
