"""What the command `fedbus` ends with; docs/cli.md has the same table."""

from fedbus.errors import Away, ConfigurationError, FedbusError

REFUSED, WRONG, AWAY, UNAUTHORIZED, NOT_FOUND, ENDED_BADLY = 1, 2, 3, 8, 9, 10
EXIT_CODES = {
    0: "done",
    REFUSED: "refused, or another error; the reason code is on standard error",
    WRONG: "wrong usage: an option, a file, a context",
    AWAY: "the api does not answer, or no local stack runs",
    4: "`fedbus up`: a port is in use",
    5: "`fedbus up`: the disk is nearly full",
    6: "`fedbus up`: something did not become healthy",
    7: "`fedbus up`: the directory is unusable",
    UNAUTHORIZED: "no valid token, or its role does not allow this",
    NOT_FOUND: "there is no such session, model, client, …",
    ENDED_BADLY: "the session that was watched failed or was stopped",
    130: "interrupted by Ctrl-C",
}
_CODES = {
    "unauthorized": UNAUTHORIZED,
    "forbidden": UNAUTHORIZED,
    "not_found": NOT_FOUND,
    "session_unknown": NOT_FOUND,
    "round_unknown": NOT_FOUND,
    "client_unknown": NOT_FOUND,
}


def exit_code(error: FedbusError) -> int:
    """Say what the command ends with."""
    if isinstance(error, Away):
        return AWAY
    if isinstance(error, ConfigurationError):
        return WRONG
    return _CODES.get(getattr(error, "code", ""), REFUSED)
