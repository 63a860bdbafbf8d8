"""What can go wrong, for callers of the SDK.

FedbusError
├── ConfigurationError      an option or the credentials file is wrong; nothing was sent (also a ValueError)
│   ├── BadOption
│   ├── BadCredentials
│   └── BadPolicy
├── Refused                 a server answered "no" for good; has `code`, `detail` and `meaning`
│   ├── ClientUnknown       this device is not registered in the project
│   └── KeyChanged          this device signed with another key before
├── NotPermitted            the bus does not let this device use a subject; has `subject`
├── BadResult               what your function returned cannot be sent; says which tensor and why
├── BadRecord               what you logged cannot be sent; says what and why (also a ValueError)
├── TaskAborted             the task that runs was withdrawn; raised where you ask for it
├── BadModel                the bytes of a model are not the ones its name says, or not a tensor file
├── BadPackage              a compute package cannot be used; says what is wrong with it
├── PackageFailed           a compute package ran and failed; has `how` and `line`, the package's own
└── Away                    a server did not answer; the client tries again by itself
    ├── BusAway             NATS, or nobody behind it
    └── StoreAway           the object store
"""

from fedbus_schemas.refusals import MEANING, Refusal, RefusalCode


class FedbusError(Exception):
    """The root of all errors of this package."""


class ConfigurationError(FedbusError, ValueError):
    """Something in the options or the credentials is wrong."""


class BadOption(ConfigurationError):
    """An option has an impossible value."""


class BadCredentials(ConfigurationError):
    """The credentials file is missing, readable by others, or not a credentials file."""


class BadPolicy(ConfigurationError):
    """The policy file is missing, writable by others, or not a policy; says where and what to write."""


class Refused(FedbusError):
    """A server refused a request for good."""

    def __init__(self, code: RefusalCode, detail: str) -> None:
        self.code = code
        self.detail = detail
        self.meaning = MEANING[code]
        super().__init__(f"{code}: {self.meaning}{f' ({detail})' if detail else ''}")


class ClientUnknown(Refused):
    """This device is not registered in the project."""


class KeyChanged(Refused):
    """This device signed with another payload key before."""


class NotPermitted(FedbusError):
    """The bus does not let this device use a subject."""

    def __init__(self, subject: str, action: str) -> None:
        self.subject = subject
        super().__init__(
            f"the bus does not let this device {action} {subject}; "
            "check that the credentials belong to this project and this bus"
        )


class BadResult(FedbusError):
    """A train or validate function returned something that cannot be sent."""


class BadRecord(FedbusError, ValueError):
    """A metric, attribute, payload or event cannot be sent."""


class TaskAborted(FedbusError):
    """The running task was withdrawn: whatever it would return is thrown away."""


class BadModel(FedbusError):
    """A model's bytes are not the ones its digest names, or not a tensor file that we accept."""


class BadPackage(FedbusError):
    """A compute package, its archive, its manifest or its environment cannot be used."""


class PackageFailed(FedbusError):
    """A compute package ran and failed. `how` says in what way, `line` is its own last word."""

    def __init__(self, what: str, how: str, line: str = "") -> None:
        self.how = how
        self.line = line
        super().__init__(f"{what}: {how}{f': {line}' if line else ''}")


class OverLimit(PackageFailed):
    """A compute package took more than the data's owner allows, by the rule of this name, and was ended."""

    def __init__(self, what: str, rule: str, how: str) -> None:
        self.rule = rule
        super().__init__(what, how)


class Away(FedbusError):
    """A server did not answer. Nothing is wrong with what was asked; it is tried again."""


class BusAway(Away):
    """NATS is away, or nobody answers there."""


class StoreAway(Away):
    """The object store is away, or answered with an error that may pass."""


def refused(refusal: Refusal) -> Refused:
    """Make the error for a refusal."""
    kinds: dict[RefusalCode, type[Refused]] = {
        RefusalCode.CLIENT_UNKNOWN: ClientUnknown,
        RefusalCode.KEY_CHANGED: KeyChanged,
    }
    return kinds.get(refusal.code, Refused)(refusal.code, refusal.detail)
