"""`python -m fedbus_auditor`: the same commands as `fedbus audit`."""

from fedbus_auditor.commands import app

if __name__ == "__main__":
    app(prog_name="fedbus-audit")
