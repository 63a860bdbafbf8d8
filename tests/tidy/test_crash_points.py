"""Every call of the services that changes something outside stands in the matrix of crash points."""

from tests.chaos.crash_points import NOT_RUN, RUNS, SAMPLE, points, sample
from tests.chaos.crash_sites import sites

HINT = "tests/chaos/crash_points.py: add a run (most often `PLAIN`), or in NOT_RUN why none can be"


def test_every_call_site_has_a_run() -> None:
    found = sites()
    named = RUNS.keys() | NOT_RUN.keys()
    assert found.keys() - named == set(), HINT
    assert named - found.keys() == set(), "these are not in the source any more"
    both = RUNS.keys() & NOT_RUN.keys()
    assert {site for site in both if found[site] < 2} == set(), "a site is run, or it is not"


def test_each_point_is_run_before_and_after_its_call() -> None:
    matrix = points()
    assert len({str(one) for one in matrix}) == len(matrix)
    assert {(one.site, one.side) for one in matrix} == {
        (site, side) for site in RUNS for side in ("before", "after")
    }


def test_a_commit_always_runs_the_same_sample() -> None:
    assert sample("a") == sample("a") != sample("b")
    assert len(set(sample("a"))) == SAMPLE
