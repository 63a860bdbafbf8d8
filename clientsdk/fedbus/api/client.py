"""`APIClient`: what an operator asks of a project, under the names that FEDn's client has for it."""

from collections.abc import Iterator
from pathlib import Path
from ssl import SSLContext
from typing import Self

from fedbus_schemas.models import ModelRef
from fedbus_schemas.views import (
    AggregatorView,
    ClientView,
    CombinerView,
    DeadLetterView,
    LetterOutcomeView,
    LineageView,
    LoggedEvent,
    ModelView,
    Page,
    RefusalView,
    RoundAttempts,
    RoundView,
    SessionView,
    StatusView,
    TimelineView,
    ValidationReportView,
)
from pydantic import JsonValue

from fedbus.api import _access, _transfer
from fedbus.api._http import Connection, Filters
from fedbus.api._watch import OVER, Event, Watch
from fedbus.api.errors import ApiError
from fedbus.errors import BadOption

PATIENCE_S = 300.0
LINEAGE_MAX = 500


class APIClient:
    """The api of one project. Methods block; share one client between threads. Use it in a `with`.

    Without `host` it is FEDBUS_API_URL, else the local stack of this folder (`.fedbus`, or FEDBUS_DIR). Without
    `token` it is FEDBUS_API_TOKEN, the file FEDBUS_API_TOKEN_FILE, or for the local stack its own.
    `host` may be a URL. `secure` is TLS (port 443 unless given, else 8080), `verify` its check: True, False,
    or an `ssl.SSLContext` with a CA of your own.

    Lists are iterators that fetch pages as you go: `n_max` ends them, `filters` and `sort` are those of
    docs/api.md, as `{"phase": "running"}`, `{"metrics.loss__lt": 0.1}`, `"-created"`. Rows are the views of
    `fedbus_schemas.views`. Every method raises `ApiError`, with the reason in `code`, or `ApiAway`.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        token: str | None = None,
        *,
        secure: bool = False,
        verify: bool | SSLContext = True,
        project: str = "default",
    ) -> None:
        self._http = Connection(_access.find(host, port, token, secure=secure), project, verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Clients and combiners

    def get_client(self, id: str) -> ClientView:  # noqa: A002  # FEDn's name
        """Give a client by its pseudonym (`c…`)."""
        return self._http.get(ClientView, f"/v1/clients/{id}")

    def get_clients(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[ClientView]:
        """List the clients, those that joined last first."""
        return self._http.rows(ClientView, "/v1/clients", filters, sort, n_max)

    def get_active_clients(self, n_max: int | None = None) -> Iterator[ClientView]:
        """List the clients that are online. Clients belong to no combiner here."""
        return self.get_clients(n_max, filters={"online": True})

    def get_clients_count(
        self, *, only_active: bool = False, filters: Filters | None = None
    ) -> int:
        """Count the clients."""
        active: Filters = {"online": True} if only_active else {}
        return self._http.count("/v1/clients", {**(filters or {}), **active})

    def get_combiners(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[CombinerView]:
        """List the combiners that worked on the project's rounds, the last one first."""
        return self._http.rows(CombinerView, "/v1/combiners", filters, sort, n_max)

    def get_combiner(self, id: str) -> CombinerView:  # noqa: A002  # FEDn's name
        """Give a combiner by its name. Raises `ApiError` (`not_found`)."""
        for one in self.get_combiners(1, filters={"name": id}):
            return one
        raise ApiError("not_found", f"combiner {id}", 404)

    def get_combiners_count(self, *, filters: Filters | None = None) -> int:
        """Count the combiners."""
        return self._http.count("/v1/combiners", filters)

    def get_controller_status(self) -> StatusView:
        """Give the project at a glance: sessions by phase, clients, what is stuck, which servers answer."""
        return self._http.get(StatusView, "/v1/status")

    # Models

    def get_model(self, id: str) -> ModelView:  # noqa: A002  # FEDn's name
        """Give a model by its SHA-256."""
        return self._http.get(ModelView, f"/v1/models/{id}")

    def get_models(
        self,
        session_id: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> Iterator[ModelView]:
        """List the models, the newest first: uploaded ones and those that rounds made."""
        asked = _with(filters, session=session_id)
        return self._http.rows(ModelView, "/v1/models", asked, sort, n_max)

    def get_models_count(self, *, filters: Filters | None = None) -> int:
        """Count the models."""
        return self._http.count("/v1/models", filters)

    def get_active_model(self) -> ModelView:
        """Give the newest model, from which a session starts if none is named."""
        for one in self.get_models(n_max=1):
            return one
        raise ApiError(
            "not_found", "the project has no model; upload one with set_active_model", 404
        )

    def get_model_trail(
        self,
        id: str | None = None,  # noqa: A002  # FEDn's name
        *,
        include_self: bool = True,
        reverse: bool = True,
        n_max: int | None = None,
    ) -> list[ModelView]:
        """Give a model (the newest if none is named) and its ancestors.

        The oldest stands first, with `reverse=False` the model itself. `n_max` keeps the nearest ones.
        """
        found: list[ModelView] = []
        place: str | None = id or self.get_active_model().digest
        most = None if n_max is None else n_max + (not include_self)
        while place is not None and (most is None or len(found) < most):
            limit = LINEAGE_MAX if most is None else min(LINEAGE_MAX, most - len(found))
            part = self._http.get(LineageView, f"/v1/models/{place}/lineage", {"limit": limit})
            found += part.items
            place = None if part.complete else part.items[-1].parent
        found = found if include_self else found[1:]
        return found[::-1] if reverse else found

    def download_model(self, id: str, path: str | Path) -> Path:  # noqa: A002  # FEDn's name
        """Write a model to a safetensors file, checked against its SHA-256, whole or not at all.

        `fedbus model convert` makes another form of it.
        """
        return _transfer.download(self._http, id, Path(path))

    def set_active_model(self, path: str | Path, *, name: str = "", helper: str = "") -> ModelRef:
        """Upload a seed model: it is then the newest one. Sent again, it changes nothing.

        A `.safetensors` file goes as it is; another one is read by the helper that its name says (`.npz`:
        numpyhelper, `.bin`: binaryhelper) or the named one. Raises `BadModel` if it cannot be read.
        """
        return _transfer.upload(self._http, Path(path), name, helper)

    set_initial_model = set_active_model

    # Sessions

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
        path = f"/v1/sessions/{session_id}/extend"
        body: dict[str, JsonValue] = {"rounds": rounds, "round_timeout_s": round_timeout}
        return self._http.send(SessionView, path, body, key=idempotency_key)

    def stop_session(self, session_id: str, reason: str = "stopped by an operator") -> SessionView:
        """End a session now; its open round is given up."""
        return self._http.send(SessionView, f"/v1/sessions/{session_id}/stop", {"reason": reason})

    def pause_session(self, session_id: str) -> SessionView:
        """Finish the open round, then open no further one."""
        return self._http.send(SessionView, f"/v1/sessions/{session_id}/pause")

    def resume_session(self, session_id: str) -> SessionView:
        """Go on after a pause."""
        return self._http.send(SessionView, f"/v1/sessions/{session_id}/resume")

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
        asked = {**(filters or {}), **({} if name is None else {"settings.name": name})}
        return self._http.rows(SessionView, "/v1/sessions", asked, sort, n_max)

    def get_sessions_count(self, *, filters: Filters | None = None) -> int:
        """Count the sessions."""
        return self._http.count("/v1/sessions", filters)

    def get_session_status(self, id: str) -> str:  # noqa: A002  # FEDn's name
        """Give a session's phase: running, waiting, paused, completed, stopped or failed."""
        return self.get_session(id).phase

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
        return Watch(self._http, session_id, after, patience_s).events()

    def get_statuses(
        self, session_id: str, event_type: str | None = None, n_max: int | None = None
    ) -> Iterator[LoggedEvent]:
        """List what a session's log says so far, the oldest first, perhaps of one type (`round.opened.v1`)."""
        return _transfer.logged(self._http, session_id, event_type, n_max)

    # Rounds and validations

    def get_round(self, session_id: str, number: int) -> RoundAttempts:
        """Give a round with all its attempts: who was invited, counted, refused, missing."""
        return self._http.get(RoundAttempts, f"/v1/sessions/{session_id}/rounds/{number}")

    def get_round_timeline(self, session_id: str, number: int) -> TimelineView:
        """Give where a round's time went."""
        return self._http.get(TimelineView, f"/v1/sessions/{session_id}/rounds/{number}/timeline")

    def get_rounds(
        self,
        n_max: int | None = None,
        *,
        session_id: str | None = None,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> Iterator[RoundView]:
        """List rounds with their last attempt, those that opened last first."""
        return self._http.rows(
            RoundView, "/v1/rounds", _with(filters, session=session_id), sort, n_max
        )

    def get_rounds_count(self, *, filters: Filters | None = None) -> int:
        """Count the rounds."""
        return self._http.count("/v1/rounds", filters)

    def get_validations(
        self,
        session_id: str | None = None,
        model_id: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> Iterator[ValidationReportView]:
        """List what clients measured of models, the last first. FEDn's `sender_name` is the filter `client`."""
        asked = _with(filters, session=session_id, model=model_id)
        return self._http.rows(ValidationReportView, "/v1/validations", asked, sort, n_max)

    def get_validations_count(self, *, filters: Filters | None = None) -> int:
        """Count the reports."""
        return self._http.count("/v1/validations", filters)

    # What went wrong, and what there is to choose

    def get_refusals(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[RefusalView]:
        """List the clients' requests that were refused, the last first."""
        return self._http.rows(RefusalView, "/v1/refusals", filters, sort, n_max)

    def get_dead_letters(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[DeadLetterView]:
        """List the messages that nobody could handle, the last first."""
        return self._http.rows(DeadLetterView, "/v1/dead-letters", filters, sort, n_max)

    def retry_dead_letter(self, sequence: int) -> LetterOutcomeView:
        """Have a dead letter delivered again, after its cause was mended."""
        return self._http.send(LetterOutcomeView, f"/v1/dead-letters/{sequence}/retry")

    def drop_dead_letter(self, sequence: int) -> LetterOutcomeView:
        """Delete a dead letter for good."""
        path = f"/v1/dead-letters/{sequence}"
        return self._http.send(LetterOutcomeView, path, method="DELETE")

    def get_aggregators(self) -> list[AggregatorView]:
        """List the aggregation rules with the JSON schema of their parameters."""
        return list(self._http.get(Page[AggregatorView], "/v1/aggregators").items)


def _with(filters: Filters | None, **given: str | None) -> Filters:
    """Add the fields that were named to the filters."""
    return {
        **(filters or {}),
        **{name: value for name, value in given.items() if value is not None},
    }
