"""Every reason why something is refused, with what it means and what to do about it.

A refusal is a value, not an exception: it is sent back to whoever asked, counted, and shown by the api
under the same code.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from fedbus_schemas.ids import RoundNumber, SessionId
from fedbus_schemas.wire import Message


class RefusalCode(StrEnum):
    """The reason codes. The text of each stands in `MEANING`."""

    # What a client sent cannot be read or is not its own to send.
    UNREADABLE = "unreadable"
    VERB_UNKNOWN = "verb_unknown"
    TOO_LARGE = "too_large"
    NOT_YOURS = "not_yours"
    CLIENT_UNKNOWN = "client_unknown"
    KEY_CHANGED = "key_changed"
    BAD_SIGNATURE = "bad_signature"
    # The round does not take it.
    SESSION_UNKNOWN = "session_unknown"
    ROUND_UNKNOWN = "round_unknown"
    ROUND_CLOSED = "round_closed"
    LATE = "late"
    NOT_IN_COHORT = "not_in_cohort"
    EQUIVOCATION = "equivocation"
    BASE_MISMATCH = "base_mismatch"
    # The update's content is wrong.
    WEIGHT_OUT_OF_RANGE = "weight_out_of_range"
    BLOB_MISSING = "blob_missing"
    HASH_MISMATCH = "hash_mismatch"
    SIZE_MISMATCH = "size_mismatch"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    SHAPE_MISMATCH = "shape_mismatch"
    DTYPE_MISMATCH = "dtype_mismatch"
    TENSOR_MISSING = "tensor_missing"
    TENSOR_UNKNOWN = "tensor_unknown"
    # The data's owner said no.
    DECLINED = "declined"
    # A command does not take it, or its client will not run it.
    COMMAND_UNKNOWN = "command_unknown"
    COMMAND_ENDED = "command_ended"
    NOT_TARGETED = "not_targeted"
    ALREADY_ANSWERED = "already_answered"
    TASK_UNKNOWN = "task_unknown"
    TASK_FAILED = "task_failed"
    TOO_MANY_OPEN = "too_many_open"
    # Try again: nothing is wrong with what was sent.
    RETRY_LATER = "retry_later"
    # The one who asks may not have it.
    BLOB_NOT_GRANTED = "blob_not_granted"
    UNAUTHORIZED = "unauthorized"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    FORBIDDEN = "forbidden"
    DEVICE_REVOKED = "device_revoked"
    JOIN_TOKEN_INVALID = "join_token_invalid"  # noqa: S105
    CLOCK_APART = "clock_apart"
    RATE_LIMITED = "rate_limited"
    # What an operator asked for.
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    SESSION_ENDED = "session_ended"
    NOT_POSSIBLE_NOW = "not_possible_now"
    FEDERATION_CONFIGURED = "federation_configured"
    PACKAGE_NOT_CONFIGURED = "package_not_configured"
    INVALID = "invalid"
    FIELD_UNKNOWN = "field_unknown"
    OPERATOR_UNKNOWN = "operator_unknown"
    CURSOR_INVALID = "cursor_invalid"
    NOT_SUPPORTED = "not_supported"
    PRUNED = "pruned"
    FAULT = "fault"


MEANING: dict[RefusalCode, str] = {
    RefusalCode.UNREADABLE: "The bytes are not a valid message or tensor file; send the documented form.",
    RefusalCode.VERB_UNKNOWN: "This server is too old for the request; upgrade the combiners.",
    RefusalCode.TOO_LARGE: "Over a named limit; the detail names it. Send less or raise the setting.",
    RefusalCode.NOT_YOURS: "The content names another client than the one that sent it.",
    RefusalCode.CLIENT_UNKNOWN: "No such client here; add it first (`fedbus client add`) or say hello.",
    RefusalCode.KEY_CHANGED: "This client signed with another key before; add it anew to use a new key.",
    RefusalCode.BAD_SIGNATURE: "The signature does not fit the content and the client's key.",
    RefusalCode.SESSION_UNKNOWN: "No session with this id; check the id and the project.",
    RefusalCode.ROUND_UNKNOWN: "The session has no such round yet; ask for the open tasks again.",
    RefusalCode.ROUND_CLOSED: "The round or attempt is over; drop the update and take the next task.",
    RefusalCode.LATE: "Stored, but after the round's cut-off: not counted.",
    RefusalCode.NOT_IN_COHORT: "The client was not invited to this round.",
    RefusalCode.EQUIVOCATION: "Another update of this client for this round is stored already; the first one stands.",
    RefusalCode.BASE_MISMATCH: "The update was made from another model than the round's.",
    RefusalCode.WEIGHT_OUT_OF_RANGE: "The number of examples must be a whole number within the session's weight_bits.",
    RefusalCode.BLOB_MISSING: "The update's blob is not in the object store; upload it, then send the manifest.",
    RefusalCode.HASH_MISMATCH: "The blob's SHA-256 is not the one in the manifest.",
    RefusalCode.SIZE_MISMATCH: "The blob's length is not the one in the manifest.",
    RefusalCode.NOT_FINITE: "A tensor holds NaN or infinity; the detail names it.",
    RefusalCode.OUT_OF_RANGE: "A value lies outside the range that the round's base model allows; the detail names it.",
    RefusalCode.SHAPE_MISMATCH: "A tensor's shape differs from the base model's.",
    RefusalCode.DTYPE_MISMATCH: "A tensor's element type differs from the base model's.",
    RefusalCode.TENSOR_MISSING: "A tensor of the base model is missing from the update.",
    RefusalCode.TENSOR_UNKNOWN: "The update holds a tensor that the base model does not have.",
    RefusalCode.DECLINED: "The policy of the data's owner does not allow this task; the detail names the rule.",
    RefusalCode.COMMAND_UNKNOWN: "No command with this id; check the id and the project.",
    RefusalCode.COMMAND_ENDED: "The command is over; drop the result, or run a new command.",
    RefusalCode.NOT_TARGETED: "The command was not given to this client.",
    RefusalCode.ALREADY_ANSWERED: "Another answer of this client to this command is stored already; the first one stands.",
    RefusalCode.TASK_UNKNOWN: "The client has no function for this task; give it one, or ask other clients.",
    RefusalCode.TASK_FAILED: "The client's function failed; the detail holds its own error line.",
    RefusalCode.TOO_MANY_OPEN: "Too many commands are open; the detail names the limit. Wait, or stop some.",
    RefusalCode.RETRY_LATER: "A server is away for a moment, or there is too much under way; send the same message again.",
    RefusalCode.NOT_FOUND: "There is no such thing under this id.",
    RefusalCode.ALREADY_EXISTS: "Something else exists under this id.",
    RefusalCode.SESSION_ENDED: "The session has ended; start a new one from its model.",
    RefusalCode.NOT_POSSIBLE_NOW: "Not possible in the present state; the detail names the state.",
    RefusalCode.FEDERATION_CONFIGURED: "A session has used the active package, so it cannot be replaced; initialise the federation anew (`POST /v1/federation/initialise`) and start a new session.",
    RefusalCode.PACKAGE_NOT_CONFIGURED: "Sessions run the active package or one of an earlier generation; activate this one, or initialise the federation with it.",
    RefusalCode.INVALID: "A field is missing or has an impossible value; the detail names it.",
    RefusalCode.FIELD_UNKNOWN: "The list has no such field; the detail names those it has.",
    RefusalCode.OPERATOR_UNKNOWN: "There is no such filter operator; the detail names those there are.",
    RefusalCode.CURSOR_INVALID: "Not a cursor of this list with these filters and this order; begin anew without it.",
    RefusalCode.NOT_SUPPORTED: "The api knows what is meant and does not do it yet; the detail says what to do instead.",
    RefusalCode.PRUNED: "It was there and was deleted by a retention rule; the detail names it.",
    RefusalCode.BLOB_NOT_GRANTED: "The client may fetch only the models and packages of its open tasks.",
    RefusalCode.UNAUTHORIZED: "A valid bearer token is needed; see `fedbus up` for where it lies.",
    RefusalCode.TOKEN_EXPIRED: "The token was valid and is no longer; ask an administrator for a new one, or sign in again.",
    RefusalCode.TOKEN_REVOKED: "An administrator has revoked this token; ask for a new one.",
    RefusalCode.FORBIDDEN: "The caller is known and none of its roles in this project allows this; the detail names those that do.",
    RefusalCode.DEVICE_REVOKED: "An administrator has revoked this device; enrol it again with a new join token and new keys.",
    RefusalCode.JOIN_TOKEN_INVALID: "The join token is unknown, has ended, or as many devices as it was for have joined; ask for a new one.",
    RefusalCode.CLOCK_APART: "The device's clock and the server's are too far apart; set the device's clock and try again.",
    RefusalCode.RATE_LIMITED: "This caller asks more often than it may; wait as long as Retry-After says.",
    RefusalCode.FAULT: "The service failed on this request; its log says why. Nothing was changed by it.",
}


class Refusal(Message):
    """A refused request: the code, and what exactly was wrong.

    `retry_after_s` goes with "retry later": about how long to wait before asking again.
    """

    code: RefusalCode
    detail: str = ""
    retry_after_s: Annotated[float, Field(ge=0)] | None = None

    @property
    def meaning(self) -> str:
        """What the code means and what to do."""
        return MEANING[self.code]


class RefusalNote(Refusal):
    """A refusal as NOTES keeps it, with where it belongs if the request said so."""

    session: SessionId | None = None
    round: RoundNumber | None = None
