"""The console script `fedbus`. The commands need the extra `cli`; the library itself does not."""

import sys

INSTALL = "the fedbus command needs a few packages more; say: pip install 'fedbus[cli]'"


def main() -> int:
    """Run the command line and give its exit code: 2 when the extra is not installed."""
    try:
        from fedbus import cli
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "click", "rich", "httpx"):
            raise
        print(INSTALL, file=sys.stderr)
        return 2
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
