"""The data owner's policy on the running stack: each rule declines what it should, and no round waits."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import fedbus
import pytest
from fedbus.consent.tasklog import NAME, Line, read_lines
from fedbus_local.stack import LocalStack
from fedbus_schemas.events import RoundCompleted

from tests.stacks import Federation, Json, eventually, federation
from tests.trainers import TINY, train, validate

SLOW_S = 100.0
"""Far more than a round takes when nobody is waited for; the deadline lies beyond it."""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def not_now() -> str:
    """A window of an hour that is not now, nor soon."""
    begin = datetime.now() + timedelta(hours=6)  # noqa: DTZ005, TID251
    return f"{begin:%H}:00-{begin + timedelta(hours=1):%H}:00"


@dataclass
class Owner:
    """A site with a policy, beside the honest ones of a federation."""

    folder: Path
    trained: list[int] = field(default_factory=list)

    @property
    def log(self) -> list[Line]:
        files = [*(self.folder / "state").glob(f"*/{NAME}")]
        return [line for file in files for line in read_lines(file)]

    def of(self, what: str) -> list[Line]:
        return [line for line in self.log if line["what"] == what]


async def owner(
    fed: Federation, folder: Path, policy: str, function: fedbus.TrainFunction = train
) -> Owner:
    """Let a site with this policy take part."""
    site = Owner(folder)

    def counted(
        model: fedbus.Model, settings: fedbus.Settings
    ) -> tuple[fedbus.Model, int, dict[str, float]]:
        site.trained.append(settings.round)
        return function(model, settings)  # type: ignore[return-value]

    trainer = fedbus.Trainer(counted, validate)
    rules = write(folder / "policy.toml", policy)
    await fed.add("owned", trainer, state_dir=folder / "state", policy=rules)
    await fed.online(len(fed.sites) + 1)
    return site


def until_cancelled(
    model: fedbus.Model, settings: fedbus.Settings
) -> tuple[fedbus.Model, int, dict[str, float]]:
    while not settings.cancelled():
        time.sleep(0.02)
    return train(model, settings)


def spoil_policy(site: Owner) -> None:
    write(site.folder / "policy.toml", "[tsk]")


def spoil_log(site: Owner) -> None:
    for folder in (site.folder / "state").iterdir():
        (folder / NAME).mkdir()


@dataclass(frozen=True)
class Case:
    rule: str
    policy: str = ""
    settings: dict[str, Json] = field(default_factory=dict)
    function: fedbus.TrainFunction = train
    before: Callable[[Owner], None] = lambda site: None
    runs: bool = False
    """Whether the function is begun: only by a rule about how long it runs or what it made."""


CASES = [
    Case("tasks.train", "[tasks]\ntrain = false"),
    Case("sessions.projects", '[sessions]\nprojects = ["another-*"]'),
    Case("sessions.deny", '[sessions]\ndeny = ["secret *"]', {"name": "secret plan"}),
    Case("sessions.allow", '[sessions]\nallow = ["mnist-*"]'),
    Case("hours.windows", f'[hours]\nwindows = ["{not_now()}"]'),
    Case("cohort.smallest", "[cohort]\nsmallest = 3"),
    Case("packages.local", "[packages]\nlocal = false"),
    Case("server.local_packages", "", {"local_packages": False}),
    Case("outgoing.mib_per_day", "[outgoing]\nmib_per_day = 0.0001"),
    Case("limits.wall_s", "[limits]\nwall_s = 0.2", function=until_cancelled, runs=True),
    Case("policy.unreadable", before=spoil_policy),
    Case("log.unwritable", before=spoil_log),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
async def test_a_rule_declines_the_task_and_the_round_goes_on(
    stack: LocalStack, tmp_path: Path, case: Case
) -> None:
    async with federation(stack, clients=1) as fed:
        site = await owner(fed, tmp_path, case.policy, case.function)
        case.before(site)
        began = time.monotonic()
        if case.rule == "server.local_packages":  # the honest site runs local code as well
            session = await fed.start(
                TINY, rounds=1, minimum=1, below_minimum="fail", attempts_max=1, **case.settings
            )
            await fed.ended(session, "failed")
        else:
            session = await fed.start(TINY, rounds=1, minimum=1, **case.settings)
            await fed.ended(session)
        assert time.monotonic() - began < SLOW_S
        assert site.trained == ([1] if case.runs else [])
        last = (await fed.rounds(session))[-1]
        codes = {one["client"]: (one["code"], one["detail"]) for one in last["refused"]}
        assert ("declined", f"rule {case.rule}") in codes.values()

        async def noted() -> Json:
            page = await fed.ask("GET", "/v1/refusals", params={"limit": 50})
            return [
                one
                for one in page["items"]
                if one["code"] == "declined" and case.rule in one["detail"]
            ]

        assert (await eventually(noted, "the decline is in the notes"))[0]["session"] == session
        if case.rule != "log.unwritable":  # then there is no log to read
            assert not [line for line in site.of("leaves") if line["task"] == "train"]
            told = site.of("asked")[0]
            expected = None if case.runs else case.rule
            assert (told["task"], told["session"], told.get("rule")) == ("train", session, expected)
        if case.runs:
            assert site.of("ended")[0]["outcome"] == f"declined by {case.rule}"
        await fed.assert_sound(session)


async def test_an_allowed_task_is_logged_and_only_listed_metrics_leave(
    stack: LocalStack, tmp_path: Path
) -> None:
    policy = '[outgoing]\nmetrics = ["size"]\n[cohort]\nsmallest = 2'
    async with federation(stack, clients=1) as fed:
        site = await owner(fed, tmp_path, policy)
        session = await fed.start(TINY, rounds=2, minimum=2)
        await fed.ended(session)
        events = await fed.assert_sound(session)
        assert [len(one.counted) for one in events if isinstance(one, RoundCompleted)] == [2, 2]

        async def validated() -> bool:
            return len([line for line in site.of("leaves") if line["task"] == "validate"]) == 2

        await eventually(validated, "both validations left")
        asked, leaves = site.of("asked"), site.of("leaves")
        assert {(line["task"], line["verdict"]) for line in asked} == {
            ("train", "allowed"),
            ("validate", "allowed"),
        }
        trains = [line for line in leaves if line["task"] == "train"]
        assert [line["round"] for line in trains] == [1, 2]
        for line in trains:
            assert line["keys"] == []
            assert int(str(line["records"])) > 0
            assert len(str(line["digest"])) == 64
            assert int(str(line["bytes"])) > 80
        assert all(line["keys"] == ["size"] for line in leaves if line["task"] == "validate")
        assert [line["outcome"] for line in site.of("ended")].count("done") == 4
        sent = json.loads(next((tmp_path / "state").glob("*/tasks.sent")).read_text())
        assert sent["bytes"] == sum(int(str(line["bytes"])) for line in leaves)
        stored = await fed.rounds(session)
        assert "loss" in stored[0]["metrics"]


async def test_a_changed_policy_is_in_force_at_the_next_task(
    stack: LocalStack, tmp_path: Path
) -> None:
    async with federation(stack, clients=1) as fed:
        site = await owner(fed, tmp_path, "")
        fed.gate.close(fed.names, 2)
        session = await fed.start(TINY, rounds=3, minimum=1)
        story = fed.stories[session]
        await story.until(lambda: len(story.stored(2)) == 1, "round 2 has the owner's update")
        write(tmp_path / "policy.toml", "[tasks]\ntrain = false")
        fed.gate.open()
        await fed.ended(session)
        assert site.trained == [1, 2]
        views = await fed.rounds(session)
        assert [len(one["refused"]) for one in views] == [0, 0, 1]
        await fed.assert_sound(session)


async def test_an_owner_who_declines_to_validate_costs_nobody_anything(
    stack: LocalStack, tmp_path: Path
) -> None:
    async with federation(stack, clients=1) as fed:
        site = await owner(fed, tmp_path, "[tasks]\nvalidate = false")
        session = await fed.start(TINY, rounds=1, minimum=2)
        await fed.ended(session)

        async def noted() -> Json:
            page = await fed.ask("GET", "/v1/refusals", params={"limit": 50})
            return [one for one in page["items"] if "tasks.validate" in one["detail"]]

        await eventually(noted, "the decline is in the notes")
        assert [line["task"] for line in site.of("leaves")] == ["train"]
