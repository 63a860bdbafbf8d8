"""Who is asked, and the numbers that are derived so that anyone can derive them again."""

from itertools import combinations

from fedbus_core.rounds.cohort import choose, client_seed, member

from tests.round_worlds import client, participant

EVERYONE = tuple(participant(letter) for letter in "abcdefghij")


def names(cohort: tuple[object, ...]) -> str:
    return "".join(each.client[1] for each in cohort)  # type: ignore[attr-defined]


def test_none_means_everyone_sorted() -> None:
    assert choose(reversed(EVERYONE), None, 1, 1, 1) == EVERYONE


def test_the_order_of_those_online_changes_nothing() -> None:
    assert choose(EVERYONE, 4, 1, 1, 1) == choose(EVERYONE[::-1], 4, 1, 1, 1)


def test_the_choice_is_the_published_one() -> None:
    """A change of the rule would make old logs underivable: these are fixed for ever."""
    assert names(choose(EVERYONE, 4, 7, 1, 1)) == "ghij"
    assert names(choose(EVERYONE, 4, 7, 1, 2)) == "aefi"
    assert names(choose(EVERYONE, 4, 7, 2, 1)) == "cdij"
    assert names(choose(EVERYONE, 4, 8, 1, 1)) == "adeg"


def test_who_goes_is_replaced_and_nobody_else_is() -> None:
    chosen = set(choose(EVERYONE, 4, 7, 1, 1))
    for gone in chosen:
        now = set(choose([each for each in EVERYONE if each != gone], 4, 7, 1, 1))
        assert chosen - {gone} <= now
        assert len(now) == 4


def test_who_was_not_chosen_may_go_unnoticed() -> None:
    chosen = choose(EVERYONE, 4, 7, 1, 1)
    rest = [each for each in EVERYONE if each not in chosen]
    for gone in combinations(rest, 3):
        assert choose([each for each in EVERYONE if each not in gone], 4, 7, 1, 1) == chosen


def test_who_comes_takes_one_place_at_most() -> None:
    before = set(choose(EVERYONE[:-1], 4, 7, 1, 1))
    assert len(set(choose(EVERYONE, 4, 7, 1, 1)) - before) <= 1


def test_over_many_rounds_everyone_has_a_turn() -> None:
    turns = [name for number in range(1, 201) for name in names(choose(EVERYONE, 4, 7, number, 1))]
    assert all(50 <= turns.count(letter) <= 110 for letter in "abcdefghij")


def test_a_member_is_found_and_a_stranger_is_not() -> None:
    cohort = EVERYONE[1:8:2]
    assert member(cohort, client("d")) == participant("d")
    for letter in "acj":
        assert member(cohort, client(letter)) is None
    assert member((), client("a")) is None


def test_a_client_has_its_own_seed_for_a_round() -> None:
    seeds = {
        client_seed(seed, number, client(letter))
        for seed in (0, 1)
        for number in (1, 2)
        for letter in "ab"
    }
    assert len(seeds) == 8
    assert all(0 <= each < 2**56 for each in seeds)
    assert client_seed(7, 1, client("a")) == 57371498570934884
