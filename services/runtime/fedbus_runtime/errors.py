"""The runtime's errors.

RuntimeFault
├── Away                a server cannot be reached; try again later
│   ├── BusAway         NATS
│   ├── RecordsAway     Redis
│   ├── StoreAway       the object store
│   └── TelemetryAway   the collector of traces
├── BusRefused          NATS refused what was asked for what it is; asking again does not help
├── NoAnswer            a request got no answer in time, or nobody serves it
├── Conflict            a compare-and-set append lost: somebody else appended first
├── AlreadyStored       the stream keeps this subject's first message for ever
├── BlobMissing         no blob under this key
├── BlobCorrupt         a blob's bytes are not the ones its name says
├── Retry               a handler's outcome: deliver this message again later
├── Reject              a handler's outcome: this message can never be handled; to the dead letters
└── SettingsFault       a setting is missing or impossible; the service does not start
"""


class RuntimeFault(Exception):
    """The root of all errors of this distribution."""


class Away(RuntimeFault):
    """A server cannot be reached or does not answer in time. Nothing is wrong with what was asked."""


class BusAway(Away):
    """NATS is away."""


class RecordsAway(Away):
    """Redis is away."""


class StoreAway(Away):
    """The object store is away, or answered with a server error."""


class TelemetryAway(Away):
    """The collector of traces is away, or did not take what it was sent."""


class BusRefused(RuntimeFault):
    """NATS refused the request itself: too large, not permitted, an impossible setting."""


class NoAnswer(RuntimeFault):
    """A request got no answer."""


class Conflict(RuntimeFault):
    """Another append to the same subject was first."""


class AlreadyStored(RuntimeFault):
    """The subject has its one message already."""


class BlobMissing(RuntimeFault):
    """There is no such blob."""


class BlobCorrupt(RuntimeFault):
    """The blob's bytes do not hash to its name, or are too many."""


class Retry(RuntimeFault):
    """Deliver the message again after `after_s` seconds.

    With `at_most`, a message that was delivered so often goes to the dead letters under `code`.
    """

    def __init__(
        self, why: str, after_s: float = 0.5, *, at_most: int | None = None, code: str = ""
    ) -> None:
        super().__init__(why)
        self.after_s = after_s
        self.at_most = at_most
        self.code = code


class Reject(RuntimeFault):
    """The message can never be handled. It goes to the dead letters under `code`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class SettingsFault(RuntimeFault):
    """A setting is missing or impossible. The text says which, and what to write."""
