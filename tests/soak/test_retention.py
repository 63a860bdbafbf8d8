"""Under retention only the log and the evidence grow. `make soak ROUNDS=1000` is the long form."""

from pathlib import Path

import pytest
from fedbus_local.stack import LocalStack

from tests.soak.retained import ROUNDS, judge, run, short_lives
from tests.soak.verdict import table

SESSIONS = 12


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_nothing_but_the_evidence_grows_with_rounds(tmp_path: Path) -> None:
    """fedn.md 15.2 row 20: statuses, validations, telemetry never expire there."""
    with short_lives(), LocalStack(tmp_path / "stack", controllers=1, combiners=1) as stack:
        findings = judge(await run(stack, SESSIONS * ROUNDS))
    assert all(one.is_fine for one in findings), table(findings)
    level = {one.name for one in findings if one.rule == "level"}
    assert {"stream UPDATES (messages)", "stream TELEMETRY (messages)", "redis doc (keys)"} <= level
