"""Finds functions that a command line or a configuration names."""

import importlib
import sys
from collections.abc import Callable

import typer


def find_function(place: str) -> Callable[..., object]:
    """Find `module:function`, also in the current folder. Raises `typer.BadParameter`."""
    module_name, colon, name = place.partition(":")
    if not colon or not name:
        raise typer.BadParameter(f"{place!r} is not of the form module:function")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: object = getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise typer.BadParameter(f"{place!r}: {error}") from error
    if not callable(found):
        raise typer.BadParameter(f"{place!r} is not a function")
    return found
