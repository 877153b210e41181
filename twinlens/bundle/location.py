"""Where a bundle is: at a path, in the package, or in the cache of pulled models.

What must stay true: a bundle at a path or in the package is found without the hub and its client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from twinlens.bundle.pull.source import parse_source

BUILTIN = "builtin"
DRAWINGS = "builtin:drawings"
PHOTOGRAPHS = "builtin:photographs"
# Bundles in the package, by name; each folder contains only data.
SHIPPED = {BUILTIN: "builtin", DRAWINGS: "builtin", PHOTOGRAPHS: "photographs"}
_HERE = Path(__file__).parent


def find_bundle(
    path_or_name: str | Path = BUILTIN,
    precisions: Sequence[str] = ("fp32",),
    *,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Return the folder of a bundle given by path, by a name in `SHIPPED`, or by a source.

    A source is pulled into the cache, at `precisions`, if it is not there; `tell` receives a line
    for each step that takes time.
    """
    name = str(path_or_name)
    if name in SHIPPED and not Path(name, "bundle.json").exists():
        return _HERE / SHIPPED[name]
    source = parse_source(path_or_name)
    if source is None:
        return Path(path_or_name).expanduser()
    from twinlens.bundle.pull.bundle_cache import BundleCache, PullRequest
    from twinlens.bundle.pull.options import PullOptions

    wanted = ("fp32", *sorted(set(precisions) - {"fp32"}))  # the reference of the others
    request = PullRequest(source, PullOptions(precisions=wanted))
    cache = BundleCache(tell=tell) if tell else BundleCache()
    return cache.open(request)


def name_shipped(folder: Path) -> str | None:
    """Return the name of a shipped bundle by its folder; None for other folders."""
    places = {(_HERE / place).resolve(): name for name, place in reversed(SHIPPED.items())}
    return places.get(folder.resolve())
