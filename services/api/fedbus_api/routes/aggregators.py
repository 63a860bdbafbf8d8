"""The aggregation rules that a session can choose."""

from fastapi import APIRouter
from fedbus_core.aggregation.rules import RULES
from fedbus_schemas.aggregators import AGGREGATORS
from fedbus_schemas.views import AggregatorView, Page

router = APIRouter(prefix="/v1/aggregators", tags=["aggregators"])


@router.get("", summary="List the aggregation rules")
async def aggregators() -> Page[AggregatorView]:
    """List the rules by name, each with the JSON schema of its parameters and its version."""
    views = [
        AggregatorView(
            name=name,
            rule=RULES[name]({}).id,
            description=(kind.__doc__ or "").partition("\n")[0],
            updates_min=kind().updates_min,
            parameters=kind.model_json_schema(),
        )
        for name, kind in sorted(AGGREGATORS.items())
    ]
    return Page(items=tuple(views))
