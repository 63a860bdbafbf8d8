"""The models that ride along in mail, as base64: from the result that made them, else from the object store."""

import base64
import binascii
from collections import OrderedDict

from fedbus_runtime.ports import Blobs
from fedbus_schemas import keys
from fedbus_schemas.codec import digest
from fedbus_schemas.ids import ProjectId, Sha256
from fedbus_schemas.models import ModelRef

MODELS_MAX = 64


class SmallModels:
    """A cache of small models; whatever comes into it was hashed here."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: OrderedDict[tuple[ProjectId, Sha256], str] = OrderedDict()

    def offer(self, project: ProjectId, model: ModelRef, text: str) -> None:
        """Keep a model that came with the result that made it, if it is the one that it is said to be."""
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error:
            return
        if digest(data) == model.digest:
            self._keep(project, model, text)

    async def read(self, project: ProjectId, model: ModelRef) -> str:
        """Give a model. Raises `StoreAway`, `BlobMissing`, `BlobCorrupt`."""
        known = self._known.get((project, model.digest))
        if known is None:
            data = await self._blobs.get(keys.model(project, model.digest), model.size)
            known = base64.b64encode(data).decode()
            self._keep(project, model, known)
        return known

    def _keep(self, project: ProjectId, model: ModelRef, text: str) -> None:
        self._known[project, model.digest] = text
        if len(self._known) > MODELS_MAX:
            self._known.popitem(last=False)
