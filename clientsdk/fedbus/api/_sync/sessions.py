# Written by tools/generate_sync_api.py from _async/sessions.py (make schemas): change that one.
"""Sessions: start them, give orders, watch; and what their logs say."""

from collections.abc import Iterator

from fedbus_schemas.views import LoggedEvent, RunView, SessionView
from pydantic import JsonValue

from fedbus.api._asked import Filters, with_fields
from fedbus.api._sync import transfer
from fedbus.api._sync.connection import Connection
from fedbus.api._sync.watch import watch
from fedbus.api._told import OVER, Event
from fedbus.api.errors import ApiError
from fedbus.errors import BadOption

PATIENCE_S = 300.0


class Sessions:
    """The project's sessions."""

    _http: Connection

    def start_session(  # FEDn's arguments
        self,
        name: str = "",
        aggregator: str = "fedavg",
        aggregator_kwargs: dict[str, JsonValue] | None = None,
        model_id: str | None = None,
        round_timeout: float = 180.0,
        rounds: int = 5,
        round_buffer_size: int = -1,
        *,
        delete_models: bool = False,
        validate: bool = True,
        helper: str = "",
        min_clients: int = 1,
        requested_clients: int | None = None,
        session_id: str | None = None,
        idempotency_key: str | None = None,
        **settings: JsonValue,
    ) -> SessionView:
        """Start a session, and return when a controller has decided it.

        FEDn's arguments are settings: `aggregator_kwargs` = `aggregator_parameters`, `round_timeout` (s) =
        `round_timeout_s`, `round_buffer_size` = `target` (-1: all that are invited), `min_clients` = `minimum`
        (valid updates without which a round does not count), `requested_clients` = `invited` (None: all).
        `delete_models` = not `keep_updates` (False: replay needs them). `settings` are any others of
        docs/settings.md, as `train={"epochs": 1}` or `clients={"ids": [...]}`. Without `model_id` it is the
        newest model. With `session_id` or an idempotency key the same may be sent again.
        """
        body: dict[str, JsonValue] = {
            **settings,
            "name": name,
            "aggregator": aggregator,
            "aggregator_parameters": aggregator_kwargs or {},
            "round_timeout_s": round_timeout,
            "rounds": rounds,
            "keep_updates": not delete_models,
            "validate": validate,
            "helper": helper,
            "minimum": min_clients,
        }
        if model_id is not None:
            body["model"] = model_id
        if round_buffer_size > 0:
            body["target"] = round_buffer_size
        if requested_clients is not None:
            body["invited"] = requested_clients
        if session_id is not None:
            body["session"] = session_id
        return self._http.send(SessionView, "/v1/sessions", body, key=idempotency_key)

    def continue_session(
        self,
        session_id: str,
        rounds: int = 5,
        round_timeout: float | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> SessionView:
        """Add rounds, also to a session that has completed. `round_timeout` (s): None = as before."""
        body: dict[str, JsonValue] = {"rounds": rounds, "round_timeout_s": round_timeout}
        return self._order(session_id, "extend", body, idempotency_key)

    def stop_session(self, session_id: str, reason: str = "stopped by an operator") -> SessionView:
        """End a session now; its open round is given up."""
        return self._order(session_id, "stop", {"reason": reason})

    def pause_session(self, session_id: str) -> SessionView:
        """Open no further round; the open one is finished first."""
        return self._order(session_id, "pause")

    def resume_session(self, session_id: str) -> SessionView:
        """Go on after a pause."""
        return self._order(session_id, "resume")

    def archive_session(self, session_id: str) -> SessionView:
        """Close a session that has ended, for good: its updates are deleted, its log and models stay."""
        return self._order(session_id, "archive")

    def get_session(self, id: str | None = None, name: str | None = None) -> SessionView:  # noqa: A002
        """Give a session by its id, or the newest one with a name."""
        if (id is None) == (name is None):
            raise BadOption("say either id or name")
        if id is not None:
            return self._http.get(SessionView, f"/v1/sessions/{id}")
        for one in self.get_sessions(1, name):
            return one
        raise ApiError("session_unknown", f"no session is named {name!r}", 404)

    def get_sessions(
        self,
        n_max: int | None = None,
        name: str | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> Iterator[SessionView]:
        """List the sessions, the newest first."""
        asked = with_fields(filters, name=name)
        return self._http.rows(SessionView, "/v1/sessions", asked, sort, n_max)

    def get_sessions_count(self, *, filters: Filters | None = None) -> int:
        """Count the sessions."""
        return self._http.count("/v1/sessions", filters)

    def get_session_status(self, id: str) -> str:  # noqa: A002  # FEDn's name
        """Give a session's phase: running, waiting, paused, completed, stopped or failed."""
        return (self.get_session(id)).phase

    def session_is_finished(self, id: str) -> bool:  # noqa: A002  # FEDn's name
        """Say whether a session has completed, was stopped, or failed."""
        return self.get_session_status(id) in OVER

    def watch(
        self, session_id: str, *, after: int = 0, patience_s: float = PATIENCE_S
    ) -> Iterator[Event]:
        """Follow a session from its beginning, or after a `sequence` of its log, until it ends.

        Events of the log (`LoggedEvent`) come once each and in order, also when the api goes away and comes
        back; hints (`LiveUpdate`, `LiveValidation`) at most once. Raises `ApiAway` once away for `patience_s`.
        """
        return watch(self._http, session_id, after, patience_s)

    def get_runs(
        self,
        session_id: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> Iterator[RunView]:
        """List the runs: the rounds that a start or an extension of a session asked for."""
        asked = with_fields(filters, session=session_id)
        return self._http.rows(RunView, "/v1/runs", asked, sort, n_max)

    def get_runs_count(self, *, filters: Filters | None = None) -> int:
        """Count the runs."""
        return self._http.count("/v1/runs", filters)

    def get_statuses(
        self, session_id: str, event_type: str | None = None, n_max: int | None = None
    ) -> Iterator[LoggedEvent]:
        """List what a session's log says so far, the oldest first, perhaps of one type (`round.opened.v1`)."""
        return transfer.logged(self._http, session_id, event_type, n_max)

    def get_status(self, session_id: str, number: int) -> list[LoggedEvent]:
        """Give the events of one entry of a session's log, by its number."""
        found = [one for one in self.get_statuses(session_id) if one.number == number]
        if not found:
            raise ApiError("not_found", f"entry {number} of {session_id}", 404)
        return found

    def get_statuses_count(self, session_id: str, event_type: str | None = None) -> int:
        """Count the events of a session's log."""
        return len([one for one in self.get_statuses(session_id, event_type)])

    def _order(
        self,
        session: str,
        verb: str,
        body: dict[str, JsonValue] | None = None,
        key: str | None = None,
    ) -> SessionView:
        return self._http.send(SessionView, f"/v1/sessions/{session}/{verb}", body, key=key)
