"""What can go wrong around an audit. What is wrong inside a bundle is a finding, never one of these.

AuditError
├── BadFile        a file cannot be read or written, or does not hold what it should
└── ApiFailed      the api cannot be reached, refused, or sent something else than was asked for
"""


class AuditError(Exception):
    """The root of all errors of this package; the text says what to do."""


class BadFile(AuditError):
    """A file cannot be read or written."""


class ApiFailed(AuditError):
    """The api did not give what an export needs."""
