"""What can go wrong between an operator's program and the api.

ApiError        the api said no; has `code` (docs/reason-codes.md), `detail`, `meaning` and `status`
├── ApiAway     the api, or a server behind it, does not answer; the same may be asked again
└── BadAnswer   what answered is not this api, or what came is not what was asked for
"""

from fedbus_schemas.refusals import MEANING, RefusalCode

from fedbus.errors import Away, FedbusError


class ApiError(FedbusError):
    """The api refused a request. `meaning` says what the code means and what to do."""

    def __init__(self, code: str, detail: str, status: int = 0, meaning: str = "") -> None:
        self.code = code
        self.detail = detail
        self.status = status
        self.meaning = meaning or MEANING.get(RefusalCode(code), "") if code in _CODES else meaning
        super().__init__(f"{code}: {self.meaning}{f' ({detail})' if detail else ''}")


class ApiAway(ApiError, Away):
    """The api does not answer, or a server behind it is away."""

    def __init__(self, detail: str, status: int = 0) -> None:
        super().__init__(RefusalCode.RETRY_LATER, detail, status)


class BadAnswer(ApiError):
    """The answer cannot be read: another program listens there, or the bytes are not the ones asked for."""

    def __init__(self, detail: str, status: int = 0) -> None:
        super().__init__(RefusalCode.FAULT, detail, status, "the answer is not one of this api")


_CODES = frozenset(code.value for code in RefusalCode)
