"""Sessions by rules that remember: the log names the state, verify checks it, replay makes it again."""

import pytest
from fedbus_core.audit.findings import Code
from fedbus_core.audit.replay import Verdict, WhatIf
from fedbus_schemas.sessions import SessionSettings

from tests import audit_worlds as worlds
from tests.audit_worlds import CLIENTS


def played(aggregator: str = "fedadam", rounds: int = 3) -> worlds.Maker:
    settings = {"rounds": rounds, "target": 3, "aggregator": aggregator}
    maker = worlds.Maker(SessionSettings.model_validate(settings))
    for _ in range(rounds):
        for number, client in enumerate(CLIENTS):
            maker.store(client, 5 + number)
        maker.close()
        maker.finish()
    return maker


@pytest.mark.parametrize("aggregator", ["fedavgm", "fedadagrad", "fedadam", "fedyogi"])
@pytest.mark.parametrize("batch_size", [1, 100])
def test_replay_makes_model_and_state_again(aggregator: str, batch_size: int) -> None:
    bundle = played(aggregator).world.bundle()
    assert worlds.codes(worlds.verify(bundle)) == set()
    report = worlds.replay(bundle, batch_size=batch_size)
    assert report.ok, report
    assert len(report.rounds) == 3


@pytest.mark.parametrize("aggregator", ["median", "trimmed_mean"])
@pytest.mark.parametrize("order_seed", [1, 2])
def test_replay_reads_all_updates_again(aggregator: str, order_seed: int) -> None:
    bundle = played("fedavg").world.bundle()
    asked = WhatIf(aggregator=aggregator)
    report = worlds.replay(bundle, what_if=asked, order_seed=order_seed)
    other = worlds.replay(bundle, what_if=asked, order_seed=0)
    for one, same in zip(report.rounds, other.rounds, strict=True):
        assert one.counterfactual
        assert one.counterfactual.digest
        assert one.counterfactual == same.counterfactual


def test_a_rule_that_needs_more_updates_says_so() -> None:
    report = worlds.replay(played("fedavg").world.bundle(), what_if=WhatIf(aggregator="krum"))
    assert report.ok
    assert report.rounds[0].counterfactual
    assert "needs 5 updates, there are 3" in report.rounds[0].counterfactual.detail


def test_after_a_round_that_is_impossible_the_state_comes_from_the_bundle() -> None:
    maker = played()
    lost = next(key for key in maker.world.blobs if "/sets/" in key)
    del maker.world.blobs[lost]
    verdicts = [one.verdict for one in worlds.replay(maker.world.bundle()).rounds]
    assert verdicts.count(Verdict.IMPOSSIBLE) == 1
    assert verdicts.count(Verdict.REPRODUCED) == 2


def test_a_damaged_state_is_found() -> None:
    maker = played()
    key = next(key for key in maker.world.blobs if "/states/" in key)
    maker.world.blobs[key] = maker.world.blobs[key][:-1] + b"x"
    assert Code.BLOB_HASH in worlds.codes(worlds.verify(maker.world.bundle()))
    assert worlds.replay(maker.world.bundle()).ok, "replay needs no state of the bundle"


def test_what_another_rule_would_have_made() -> None:
    bundle = played("fedavg").world.bundle()
    report = worlds.replay(bundle, what_if=WhatIf(aggregator="fedavgm", parameters={"momentum": 0}))
    assert report.ok
    for one in report.rounds:
        assert one.counterfactual is not None
        assert one.counterfactual.rule == "fedavgm/1"
        assert one.counterfactual.difference is not None
        assert one.counterfactual.difference.largest < 1e-6
    report = worlds.replay(bundle, what_if=WhatIf(aggregator="fedadam"))
    assert all(one.counterfactual and one.counterfactual.digest for one in report.rounds)
