"""The app: routes over the parts, problems for errors. It starts and stops nothing: `main` does."""

from fastapi import Depends, FastAPI

from fedbus_api import openapi, problems
from fedbus_api.access.guard import Guard
from fedbus_api.measuring import Measured
from fedbus_api.routes import (
    access,
    aggregators,
    audit,
    commands,
    dead_letters,
    devices,
    events,
    federation,
    functions,
    models,
    packages,
    participants,
    records,
    rounds,
    sessions,
    stages,
    status,
)
from fedbus_api.routes.parameters import bearer
from fedbus_api.wiring import Api

VERSION = "1"
DESCRIPTION = """Start and follow federated learning sessions.

Reads are made from the session's log and touch no round. Errors are `application/problem+json` with a
reason code. Lists come newest first, in pages: pass `next` as `cursor`.
"""


def create_app(api: Api) -> FastAPI:
    """Make the app over these parts."""
    app = FastAPI(
        title="Federated learning api",
        version=VERSION,
        description=DESCRIPTION,
        generate_unique_id_function=lambda route: f"{route.tags[0]}_{route.name}",
    )
    app.state.api = api
    problems.install(app)
    openapi.install(app)
    for part in (
        access,
        devices,
        aggregators,
        sessions,
        rounds,
        events,
        models,
        stages,
        packages,
        federation,
        functions,
        audit,
        participants,
        records,
        commands,
        dead_letters,
    ):
        app.include_router(part.router, dependencies=[Depends(bearer)])
    app.include_router(sessions.runs_router, dependencies=[Depends(bearer)])
    app.include_router(status.router)
    app.add_middleware(Guard, access=api.access)
    app.add_middleware(Measured)
    return app
