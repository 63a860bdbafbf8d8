"""A client process at the end of a bad link: `python -m tests.chaos.edge_site CREDENTIALS STATE_DIR S3 LINK`.

What it would send to the port S3 goes to the port LINK; the requests say the same. Says `training ROUND` on
its standard output whenever it trains.
"""

import http.client
import sys

import fedbus

credentials, state_dir, s3_port, link_port = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5])

_connect = http.client.HTTPConnection.connect


def connect_by_the_link(connection: http.client.HTTPConnection) -> None:
    assert connection.port == s3_port
    connection.port = link_port
    try:
        _connect(connection)
    finally:
        connection.port = s3_port  # it is in the Host header, which is signed


def train(
    model: fedbus.Model, settings: fedbus.Settings
) -> tuple[fedbus.Model, int, dict[str, float]]:
    print(f"training {settings.round}", flush=True)
    model["w"] += 1
    return model, 10, {}


http.client.HTTPConnection.connect = connect_by_the_link  # type: ignore[assignment,method-assign]
fedbus.run(train=train, credentials=credentials, state_dir=state_dir)
