"""The services: `python -m fedbus_<role>`, told by environment where the servers and their secrets are."""

import os
import sys
from collections.abc import Mapping

from fedbus_local import keys, ports, probes
from fedbus_local.layout import Layout
from fedbus_local.plan import Plan
from fedbus_local.programs import Program
from fedbus_local.servers import BUCKET, REGION

RETENTION = "FEDBUS_RETENTION__"
"""Settings of fedbus that reach controllers and apis from the caller's environment."""


def all_of(layout: Layout, plan: Plan) -> list[Program]:
    """Give the services that the plan asks for, in the order of starting."""
    return [one(layout, plan, role, name) for role, name in plan.instances]


def one(layout: Layout, plan: Plan, role: str, name: str) -> Program:
    """Describe one service process."""
    is_api = role == "api"
    port = plan.ports["api" if is_api else name]
    return Program(
        name=name,
        role=role,
        command=[sys.executable, "-m", f"fedbus_{role}"],
        folder=layout.root,
        port=port,
        probe=probes.http(plan.here if is_api else ports.LOOPBACK, port, "/readyz"),
        environment=environment(layout, plan, role, name),
    )


def environment(layout: Layout, plan: Plan, role: str, name: str) -> Mapping[str, str]:
    """Give the settings of one service process; secrets are files."""
    settings = {
        "FEDBUS_INSTANCE": name,
        "FEDBUS_NATS__URL": f"nats://{plan.here}:{plan.ports['nats']}",
        "FEDBUS_NATS__SEED_FILE": str(layout.keys / f"{role}.nk"),
        "FEDBUS_NATS__TOKEN_FILE": str(layout.keys / f"{role}.jwt"),
        "FEDBUS_REDIS__URL": f"redis://{ports.LOOPBACK}:{plan.ports['redis']}/0",
        "FEDBUS_REDIS__PASSWORD_FILE": str(layout.keys / "redis.password"),
        "FEDBUS_S3__ENDPOINT": f"http://{plan.here}:{plan.ports['s3']}",
        "FEDBUS_S3__PUBLIC_ENDPOINT": f"http://{plan.public_host}:{plan.ports['s3']}",
        "FEDBUS_S3__BUCKET": BUCKET,
        "FEDBUS_S3__REGION": REGION,
        "FEDBUS_S3__ACCESS_KEY": keys.read(layout, "s3.access"),
        "FEDBUS_S3__SECRET_KEY_FILE": str(layout.keys / "s3.secret"),
        "FEDBUS_LOG__FORMAT": "json",
    }
    if role in ("api", "controller"):
        settings |= {
            name: value for name, value in os.environ.items() if name.startswith(RETENTION)
        }
    if role == "api":
        settings |= {
            "FEDBUS_API__HOST": plan.host,
            "FEDBUS_API__PORT": str(plan.ports["api"]),
            "FEDBUS_API__TOKEN_FILE": str(layout.keys / "api.token"),
            "FEDBUS_API__TRUST_FILE": str(layout.trust),
            "FEDBUS_API__BUS_SERVERS": f"nats://{plan.public_host}:{plan.ports['nats']}",
        }
    else:
        settings |= {
            "FEDBUS_HEALTH__HOST": ports.LOOPBACK,
            "FEDBUS_HEALTH__PORT": str(plan.ports[name]),
        }
    if role == "controller":
        settings["FEDBUS_SIGNING__SEED_FILE"] = str(layout.keys / "signing.seed")
        settings["FEDBUS_DEVICES__KEYS"] = str(layout.keys)
    return settings
