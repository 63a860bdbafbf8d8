"""`python -m fedbus_local`: the local stack's commands alone."""

from fedbus_local.client_commands import app as client_app
from fedbus_local.commands import app

if __name__ == "__main__":
    app.add_typer(client_app, name="client")
    app()
