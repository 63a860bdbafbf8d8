"""The matrix of crash points: for each call of the services that changes something outside, what hits it.

`RUNS` says how each site is hit; `NOT_RUN` says of the rest why nothing on real servers can. Whoever adds a
call adds a line here, or `tests/tidy/test_crash_points.py` fails.
"""

import random
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import crash_asks as asks
from tests.chaos import crash_commands as commands
from tests.chaos import crash_letters as letters
from tests.chaos import crash_orders as orders
from tests.chaos import crash_scenes as scenes
from tests.chaos.crash_scenes import Scene
from tests.chaos.crash_sites import sites
from tests.stacks import Json
from tests.trainers import LARGE, TINY

SIDES = ("before", "after")
SAMPLE = 10
"""So many points a run of `make test`."""


@dataclass(frozen=True, slots=True)
class Run:
    """How a site is hit: a session with this model, and what is done in the middle of its second round."""

    scene: Scene = scenes.go_on
    model: str = "tiny"
    batch_size: int = 32


MODELS: Mapping[str, Json] = {"tiny": TINY, "large": LARGE}
PLAIN = Run()
JOIN = Run(scenes.newcomer)
STORE = Run(model="large")
BATCHES = Run(scenes.hold_the_next_round, model="large", batch_size=2)
LOOK = Run(orders.look_on)
MODEL = Run(orders.upload_model)
CLIENT = Run(orders.rename_and_erase_a_client)
STAGE = Run(orders.promote_and_roll_back)
NOTHING_KEPT = Run(orders.run_one_that_keeps_nothing)
DEVICE = Run(orders.let_a_device_in_and_shut_it_out)
PACKAGE = Run(orders.use_a_package)
CODE = Run(orders.store_server_functions)
COMMAND = Run(commands.run)
ORDER_FAILS = Run(commands.order_into_a_broken_log)

RUNS: Mapping[str, Run] = {
    "controller.main.body.prepare": PLAIN,
    "controller.main.body.serve": PLAIN,
    "controller.commands._settle.append": COMMAND,
    "controller.commands._publish.append": COMMAND,
    "controller.commands._keep_deadline.schedule": COMMAND,
    "controller.commands._keep_deadline.cancel": COMMAND,
    "controller.devices.serve.serve": DEVICE,
    "controller.handlers._settle.append": PLAIN,
    "controller.mailing._publish.append": PLAIN,
    "controller.perform._perform.put_round": PLAIN,
    "controller.perform._perform.append": STORE,
    "controller.perform._perform.forget": PLAIN,
    "controller.perform._forget_partials.delete": BATCHES,
    "controller.perform._keep_deadline.cancel": PLAIN,
    "controller.perform._keep_deadline.schedule": PLAIN,
    "controller.perform._sign_head.append": PLAIN,
    "controller.leftovers._delete.delete": Run(scenes.leave_a_piece),
    "controller.retention.drop.delete": NOTHING_KEPT,
    "controller.retention.drop_updates.cancel": NOTHING_KEPT,
    "controller.redo._redo.append": Run(letters.retry_work),
    "controller.redo._redo.delete": Run(letters.retry_work),
    "controller.redo._deliver.append": Run(letters.retry_work),
    "controller.redo._recount.append": Run(letters.retry_update),
    "controller.consumer._settle.ack.controllers": PLAIN,
    "controller.consumer._settle.ack.performers": PLAIN,
    "controller.consumer._settle.ack.commanders": COMMAND,
    "controller.consumer._settle.ack.command-performers": COMMAND,
    "controller.consumer._settle.ack.answers": COMMAND,
    "controller.consumer._settle.retry.controllers": Run(letters.retry_without_place),
    "controller.consumer._settle.retry.performers": Run(scenes.mail_without_model),
    "controller.consumer._settle.retry.commanders": ORDER_FAILS,
    "controller.consumer._settle.retry.command-performers": Run(commands.perform_a_broken_log),
    "controller.consumer._settle.retry.answers": Run(commands.answer_into_a_broken_log),
    "controller.consumer._bury.append.controllers": Run(letters.poison_input),
    "controller.consumer._bury.discard.controllers": Run(letters.poison_input),
    "controller.consumer._bury.append.commanders": Run(commands.poison_order),
    "controller.consumer._bury.discard.commanders": Run(commands.poison_order),
    "controller.consumer._bury.append.command-performers": Run(commands.use_up_command),
    "controller.consumer._bury.discard.command-performers": Run(commands.use_up_command),
    "controller.consumer._bury.append.answers": Run(commands.use_up_answer),
    "controller.consumer._bury.discard.answers": Run(commands.use_up_answer),
    "controller.consumer._bury.append.performers": Run(letters.use_up_entry),
    "controller.consumer._bury.discard.performers": Run(letters.use_up_entry),
    "controller.consumer._keep.working.controllers": Run(scenes.pause_while_redis_sleeps),
    "controller.consumer._keep.working.performers": Run(scenes.pause_while_redis_sleeps),
    "controller.consumer._keep.working.commanders": Run(commands.run_while_redis_sleeps),
    "combiner.main.body.serve": PLAIN,
    "combiner.asks._on_hello.enter": JOIN,
    "combiner.asks._note_seen.seen": JOIN,
    "combiner.asks._on_beat.gone": Run(asks.say_goodbye),
    "combiner.asks._on_report.append": PLAIN,
    "combiner.commands.answer.append": COMMAND,
    "combiner.commands.progress.append": COMMAND,
    "combiner.commands.start_task.append": Run(commands.start_one),
    "combiner.grants.forget.delete": Run(asks.give_up_an_upload),
    "combiner.finish.finish.append": PLAIN,
    "combiner.finish._keep.put": STORE,
    "combiner.fold.fold.put": BATCHES,
    "combiner.fold.fold.put_partial": BATCHES,
    "combiner.ingest._store.append": PLAIN,
    "combiner.live_rounds.rebuild.put_round": PLAIN,
    "combiner.live_rounds._count_all.count": PLAIN,
    "combiner.notes.run.append": Run(asks.ask_nonsense),
    "combiner.records.beat.append": Run(asks.tell_of_a_backlog),
    "combiner.records._follow.append": Run(asks.log_something),
    "combiner.signal.run.request": JOIN,
    "combiner.tally._count.count": PLAIN,
    "combiner.tally._hand_out.append": BATCHES,
    "combiner.tally._notify.request": PLAIN,
    "combiner.transfers.gated.take": STORE,
    "combiner.transfers._release.release": STORE,
    "combiner.transfers.done.release": STORE,
    "combiner.consumer._settle.ack.combiners": PLAIN,
    "combiner.consumer._settle.ack.tallies": PLAIN,
    "combiner.consumer._settle.retry.combiners": Run(scenes.finish_without_model),
    "combiner.consumer._settle.retry.tallies": Run(letters.poison_update),
    "combiner.consumer._bury.append.combiners": Run(letters.poison_work),
    "combiner.consumer._bury.discard.combiners": Run(letters.poison_work),
    "combiner.consumer._bury.append.tallies": Run(letters.use_up_update),
    "combiner.consumer._bury.discard.tallies": Run(letters.use_up_update),
    "combiner.consumer._keep.working.combiners": Run(scenes.recount_while_redis_sleeps),
    "combiner.consumer._keep.working.tallies": Run(scenes.count_while_redis_sleeps),
    "api.access.acts.begin.append": Run(orders.pause_and_resume),
    "api.access.acts.end.append": Run(orders.pause_and_resume),
    "api.access.tokens.make.append": Run(orders.make_and_revoke_a_token),
    "api.access.tokens.revoke.append": Run(orders.make_and_revoke_a_token),
    "api.access.enrolment.make_join.append": DEVICE,
    "api.access.enrolment._change.append": DEVICE,
    "api.access.enrolment._enter.append": DEVICE,
    "api.access.enrolment._mint.request": DEVICE,
    "api.access.enrolment.revoke.append": DEVICE,
    "api.catalog.upload.put": MODEL,
    "api.catalog.upload.append": MODEL,
    "api.functions.keep.put": CODE,
    "api.command_tree._publish.append": COMMAND,
    "api.commands._publish.append": Run(orders.pause_and_resume),
    "api.commands._remember.put": Run(orders.pause_and_resume),
    "api.dead_letters.retry.append": Run(letters.retry_work),
    "api.dead_letters.drop.append": Run(letters.drop_work),
    "api.dead_letters.drop.delete": Run(letters.drop_work),
    "api.packages.upload.put": PACKAGE,
    "api.packages.upload.append": PACKAGE,
    "api.packages.sign.append": PACKAGE,
    "api.packages._append.append": PACKAGE,
    "api.packages.for_session.append": PACKAGE,
    "api.people._replace.append": CLIENT,
    "api.people.erase.cancel": CLIENT,
    "api.people.erase.gone": CLIENT,
    "api.reading._keep.put": LOOK,
    "api.stages._change.append": STAGE,
}

NO_TRACES = "only where traces are sent, and no round depends on it; tests/e2e/test_traces.py kills controllers"
NOT_RUN: Mapping[str, str] = {
    "controller.consumer._keep.working.command-performers": "its handler asks the bus only: while "
    "that is slow, the heartbeat does not get there either",
    "controller.consumer._keep.working.answers": "the same",
    "combiner.fold.fold.delete": "only when the attempt ends between the storing of its partial and the next "
    "line; the simulation passes it",
    "controller.main._show_rounds.prepare": NO_TRACES,
    "controller.consumer._settle.ack.tracers": NO_TRACES,
    "controller.consumer._keep.working.tracers": NO_TRACES,
    "controller.consumer._settle.retry.tracers": NO_TRACES,
    "controller.consumer._bury.append.tracers": NO_TRACES,
    "controller.consumer._bury.discard.tracers": NO_TRACES,
    "combiner.live_rounds._count_all.count": "the second time: only when an update comes between two looks",
}
"""A site that is in `RUNS` too stands for its second call."""


@dataclass(frozen=True, slots=True)
class Point:
    """One place to die: at a site, before or after its call, at the n-th passing."""

    site: str
    side: str
    count: int

    def __str__(self) -> str:
        again = f"#{self.count}" if self.count > 1 else ""
        return f"{self.site}:{self.side}{again}"

    @property
    def name(self) -> str:
        """The name that the service knows it by."""
        return f"{self.site}:{self.side}"

    @property
    def process(self) -> str:
        """Who dies."""
        role = self.site.partition(".")[0]
        return role if role == "api" else f"{role}-1"


def points() -> list[Point]:
    """Give the matrix: each site that is run, before and after, as often as it stands in its function."""
    return [
        Point(site, side, count)
        for site, times in sorted(sites().items())
        if site in RUNS
        for count in range(1, 1 + (1 if site in NOT_RUN else times))
        for side in SIDES
    ]


def sample(of: str) -> list[Point]:
    """Choose the points of one run by the commit it is of."""
    return random.Random(of).sample(points(), SAMPLE)


def commit() -> str:
    """Name the commit that is tested; a constant where there is no repository."""
    git = shutil.which("git")
    if git is None:
        return "none"
    asked = [git, "rev-parse", "HEAD"]
    done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, check=False)
    return done.stdout.decode().strip() or "none"
