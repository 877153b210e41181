"""The bundles that `twinlens serve` is given: the name of each, and where it lies."""

from __future__ import annotations

from pathlib import Path

from twinlens.cli.options import locate_bundle
from twinlens.errors import InputError


def read_bundles(given: list[str]) -> dict[str, str]:
    """Return paths by name; a path without a name is named after its folder or repository."""
    from twinlens.bundle.location import SHIPPED
    from twinlens.bundle.pull.source import parse_source

    if not given:
        return {"builtin": "builtin"}
    found: dict[str, str] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not sign:
            source = parse_source(text)
            name, path = source.name if source else Path(text).name, text
            if text in SHIPPED:
                name = text.rpartition(":")[2]  # a name that a request can give
        if not name or not path:
            raise InputError(f"{text!r} is not a bundle; write PATH or NAME=PATH")
        if name in found:
            raise InputError(f"two bundles are called {name!r}; name one with NAME=PATH")
        found[name] = path
    return found


def pull_models(named: dict[str, str], precisions: tuple[str, ...]) -> dict[str, str]:
    """Return the same with each ready model replaced by its bundle in the cache."""
    from twinlens.bundle.pull.source import parse_source

    return {
        name: str(locate_bundle(path, precisions)) if parse_source(path) else path
        for name, path in named.items()
    }
