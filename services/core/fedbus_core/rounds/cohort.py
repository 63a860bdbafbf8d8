"""Who is asked in a round. The choice is a pure function of the session's seed: anyone can repeat it."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from fedbus_schemas.events import Participant
from fedbus_schemas.ids import ClientId


def choose(
    online: Iterable[Participant], invited: int | None, seed: int, round_number: int, attempt: int
) -> tuple[Participant, ...]:
    """Choose `invited` of those online (none = all), uniformly by hash, sorted by client.

    Each client gets the rank SHA-256(seed, round, attempt, client); the lowest ranks are in. A client
    that comes or goes changes nobody else's rank.
    """
    ranked = sorted(online, key=lambda one: rank(seed, round_number, attempt, one.client))
    return tuple(sorted(ranked[:invited], key=lambda one: one.client))


def member(cohort: Sequence[Participant], client: ClientId) -> Participant | None:
    """Find a client in a cohort, which is sorted by client."""
    place = bisect_left(cohort, client, key=lambda one: one.client)
    found = cohort[place] if place < len(cohort) else None
    return found if found is not None and found.client == client else None


def client_seed(seed: int, round_number: int, client: ClientId) -> int:
    """Give a client's own seed for a round: the same in every attempt, so that a retry repeats it."""
    digest = hashlib.sha256(f"train/{seed}/{round_number}/{client}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def rank(seed: int, round_number: int, attempt: int, client: ClientId) -> bytes:
    """Give a client's place in the draw for an attempt: the lowest are asked."""
    return hashlib.sha256(f"cohort/{seed}/{round_number}/{attempt}/{client}".encode()).digest()
