"""Every metric of the services, with a sentence each: the one list that the docs, dashboard and alerts follow.

Labels have few values: codes, verbs, consumers, never a session or a client. Counting costs about a
microsecond. `/metrics` on the health port shows them to Prometheus; `otlp_metrics.py` sends the same numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Literal, TypeAlias

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

REGISTRY = CollectorRegistry()
"""What `/metrics` shows: these, and what the operating system says of the process."""
prometheus_client.ProcessCollector(registry=REGISTRY)

FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW_S = (0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)


class Counter:
    """Only grows."""

    kind: Kind = "counter"

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._kept = prometheus_client.Counter(name, text, labels, registry=REGISTRY)

    def add(self, amount: float = 1.0, **labels: str) -> None:
        """Count."""
        (self._kept.labels(**labels) if labels else self._kept).inc(amount)


class Gauge:
    """Goes up and down."""

    kind: Kind = "gauge"

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._kept = prometheus_client.Gauge(name, text, labels, registry=REGISTRY)

    def set(self, value: float, **labels: str) -> None:
        """Say what it is now."""
        (self._kept.labels(**labels) if labels else self._kept).set(value)


class Histogram:
    """How often something took how long."""

    kind: Kind = "histogram"

    def __init__(self, name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._kept = prometheus_client.Histogram(
            name, text, labels, buckets=buckets, registry=REGISTRY
        )

    def observe(self, value: float, **labels: str) -> None:
        """Take one more value."""
        (self._kept.labels(**labels) if labels else self._kept).observe(value)

    @contextmanager
    def timed(self, **labels: str) -> Iterator[None]:
        """Take the time that something takes, however it ends."""
        started = monotonic()
        try:
            yield
        finally:
            self.observe(monotonic() - started, **labels)


Metric: TypeAlias = Counter | Gauge | Histogram

ROUNDS = Counter(
    "fedbus_rounds_total",
    "Attempts of rounds that ended, by outcome: completed, stopped, or why they failed.",
    "outcome",
)
ROUND_SECONDS = Histogram(
    "fedbus_round_seconds",
    "Seconds of completed rounds: collect (opening to closing), finish (making the model), whole.",
    "phase",
    buckets=SLOW_S,
)
UPDATES = Counter(
    "fedbus_updates_total",
    "Updates by what became of them: stored, counted, or the reason code of a refusal.",
    "code",
)
UPDATE_BYTES = Counter("fedbus_update_bytes_total", "Bytes of the updates that were stored.")
FOLD_BYTES = Counter("fedbus_fold_bytes_total", "Bytes of updates that were checked and folded.")
FOLD_SECONDS = Counter(
    "fedbus_fold_seconds_total",
    "Seconds spent checking and folding; bytes over seconds is the fold rate.",
)
CLIENTS_ONLINE = Gauge(
    "fedbus_clients_online",
    "Clients heard of in the last 30 seconds, as Redis says; each combiner tells of the projects it serves.",
    "project",
)
SESSIONS_OPEN = Gauge("fedbus_sessions_open", "Sessions that are not at an end.")
SESSIONS_WAITING = Gauge("fedbus_sessions_waiting", "Sessions that wait for clients.")
ASKS = Counter(
    "fedbus_asks_total",
    "Requests of clients by verb and answer: ok, or the reason code of a refusal.",
    "verb",
    "code",
)
ASK_SECONDS = Histogram(
    "fedbus_ask_seconds", "Seconds to answer a client's request.", "verb", buckets=FAST_S
)
MESSAGES = Counter(
    "fedbus_messages_total",
    "Messages taken from streams, by durable consumer and how it went: done, retry, dead.",
    "consumer",
    "outcome",
)
MESSAGE_SECONDS = Histogram(
    "fedbus_message_seconds", "Seconds to handle a message.", "consumer", buckets=FAST_S
)
MESSAGE_WAIT_SECONDS = Histogram(
    "fedbus_message_wait_seconds",
    "Lag: seconds from the storing of a message to its handling.",
    "consumer",
    buckets=FAST_S,
)
REDELIVERIES = Counter(
    "fedbus_redeliveries_total",
    "Messages that were taken before: somebody retried, died or stalled.",
    "consumer",
)
DEAD_LETTERS = Counter(
    "fedbus_dead_letters_total",
    "Messages that went to the dead letters, by code.",
    "consumer",
    "code",
)
QUEUE_PENDING = Gauge(
    "fedbus_queue_pending",
    "Queue depth: messages that no instance has taken yet, as the bus says.",
    "consumer",
)
QUEUE_UNSETTLED = Gauge(
    "fedbus_queue_unsettled", "Messages that are being handled or will come again.", "consumer"
)
STORE_SECONDS = Histogram(
    "fedbus_store_seconds",
    "Seconds of a call to the object store, by method and outcome: ok, or an error's name.",
    "method",
    "outcome",
    buckets=FAST_S,
)
STORE_BYTES = Counter(
    "fedbus_store_bytes_total", "Bytes moved to and from the object store by services.", "method"
)
APPEND_CONFLICTS = Counter(
    "fedbus_append_conflicts_total", "Decisions that lost the race to another controller's."
)
HTTP_REQUESTS = Counter(
    "fedbus_http_requests_total",
    "Requests to the api by method, route and status.",
    "method",
    "route",
    "status",
)
HTTP_SECONDS = Histogram(
    "fedbus_http_seconds", "Seconds to the first byte of an answer.", "route", buckets=FAST_S
)
BUS_CONNECTED = Gauge("fedbus_bus_connected", "1 while the service is connected to NATS.")
BUILD = Gauge(
    "fedbus_build_info", "Always 1; which service in which version this is.", "service", "version"
)

METRICS: tuple[Metric, ...] = (
    ROUNDS,
    ROUND_SECONDS,
    UPDATES,
    UPDATE_BYTES,
    FOLD_BYTES,
    FOLD_SECONDS,
    CLIENTS_ONLINE,
    SESSIONS_OPEN,
    SESSIONS_WAITING,
    ASKS,
    ASK_SECONDS,
    MESSAGES,
    MESSAGE_SECONDS,
    MESSAGE_WAIT_SECONDS,
    REDELIVERIES,
    DEAD_LETTERS,
    QUEUE_PENDING,
    QUEUE_UNSETTLED,
    STORE_SECONDS,
    STORE_BYTES,
    APPEND_CONFLICTS,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    BUS_CONNECTED,
    BUILD,
)


def exposition() -> str:
    """Write all metrics as Prometheus reads them."""
    return generate_latest(REGISTRY).decode()
