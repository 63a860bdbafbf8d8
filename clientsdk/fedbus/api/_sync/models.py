# Written by tools/generate_sync_api.py from _async/models.py (make schemas): change that one.
"""Models: those that were uploaded, and those that rounds made."""

from collections.abc import Iterator
from pathlib import Path

from fedbus_schemas.models import ModelRef
from fedbus_schemas.trail_views import ParametersView, StageView
from fedbus_schemas.views import LineageView, ModelView
from pydantic import JsonValue

from fedbus.api import _files
from fedbus.api._asked import Filters, with_fields
from fedbus.api._files import Progress
from fedbus.api._sync import transfer
from fedbus.api._sync.connection import Connection
from fedbus.api.errors import ApiError

LINEAGE_MAX = 500


class Models:
    """The project's models."""

    _http: Connection

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
        asked = with_fields(filters, session=session_id)
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
        place = id or (self.get_active_model()).digest
        most = None if n_max is None else n_max + (not include_self)
        complete = False
        while not complete and (most is None or len(found) < most):
            limit = LINEAGE_MAX if most is None else min(LINEAGE_MAX, most - len(found))
            path = f"/v1/models/{place}/lineage"
            part = self._http.get(LineageView, path, {"limit": limit})
            found += part.items
            complete, place = part.complete, part.items[-1].parent or ""
        found = found if include_self else found[1:]
        return found[::-1] if reverse else found

    def get_model_parent(self, id: str) -> ModelView:  # noqa: A002
        """Give the model that a round started from when it made this one."""
        return self._http.get(ModelView, f"/v1/models/{id}/parent")

    def get_model_descendants(
        self,
        id: str,  # noqa: A002
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> Iterator[ModelView]:
        """List all models that were made from this one, directly or through others, in any session."""
        return self._http.rows(ModelView, f"/v1/models/{id}/descendants", filters, sort, n_max)

    def get_leaf_models(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[ModelView]:
        """List the models that nothing was made from: the ends of all trails."""
        return self._http.rows(ModelView, "/v1/models/leaves", filters, sort, n_max)

    def get_model_parameters(
        self,
        id: str,  # noqa: A002
        *,
        values: bool = False,
    ) -> ParametersView:
        """Give a model's tensors: names, shapes, dtypes, statistics, and of a small one its weights."""
        return self._http.get(ParametersView, f"/v1/models/{id}/parameters", {"values": values})

    def get_stages(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[StageView]:
        """List the stages with the model that is in each."""
        return self._http.rows(StageView, "/v1/stages", filters, sort, n_max)

    def get_stage(self, stage: str) -> StageView:
        """Give the model that is in a stage (candidate, production), and those that were."""
        return self._http.get(StageView, f"/v1/stages/{stage}")

    def promote_model(
        self,
        stage: str,
        id: str | None = None,  # noqa: A002
        *,
        from_stage: str | None = None,
        reason: str = "",
    ) -> StageView:
        """Put a model into a stage: one by its SHA-256, or the one that is in another stage."""
        body: dict[str, JsonValue] = {"model": id, "from_stage": from_stage, "reason": reason}
        return self._http.send(StageView, f"/v1/stages/{stage}", body, method="PUT")

    def roll_back_stage(
        self, stage: str, *, reason: str = "", idempotency_key: str | None = None
    ) -> StageView:
        """Put the model back that was in a stage before. Without a key, asked twice it goes back twice."""
        path = f"/v1/stages/{stage}/rollback"
        return self._http.send(StageView, path, {"reason": reason}, key=idempotency_key)

    def download_model(
        self,
        id: str,  # noqa: A002  # FEDn's name
        path: str | Path,
        *,
        progress: Progress | None = None,
    ) -> Path:
        """Write a model to a safetensors file, checked against its SHA-256, whole or not at all.

        `progress` is told the bytes that came and those there are. `fedbus model convert` makes another
        form of the file.
        """
        return transfer.download(self._http, ("models", id), Path(path), progress)

    def set_active_model(
        self,
        path: str | Path,
        *,
        name: str = "",
        helper: str = "",
        progress: Progress | None = None,
    ) -> ModelRef:
        """Upload a seed model: it is then the newest one. Sent again, it changes nothing.

        A `.safetensors` file goes as it is; another one is read by the helper that its name says (`.npz`:
        numpyhelper, `.bin`: binaryhelper) or the named one. Raises `BadModel` if it cannot be read.
        """
        source = _files.open_model(Path(path), helper)
        params = {"name": name}
        return transfer.upload(self._http, ModelRef, "/v1/models", source, params, progress)

    def set_initial_model(
        self,
        path: str | Path,
        *,
        name: str = "",
        helper: str = "",
        progress: Progress | None = None,
    ) -> ModelRef:
        """Upload a seed model, under the name that FEDn's FAQ has for `set_active_model`."""
        return self.set_active_model(path, name=name, helper=helper, progress=progress)
