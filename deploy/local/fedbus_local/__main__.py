"""`python -m fedbus_local`: the local stack's commands alone."""

from fedbus_local.commands import app

if __name__ == "__main__":
    app()
