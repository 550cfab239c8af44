"""Errors for names that are not known."""

import difflib
from collections.abc import Iterable


def unknown_name(what: str, name: str, known: Iterable[str]) -> ValueError:
    """Return an error with the likeliest name and all others: `unknown method 'yarm'; did you mean 'yarn'? ..`."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return ValueError(f"unknown {what} {name!r};{hint} available: {', '.join(names) or 'none'}")
