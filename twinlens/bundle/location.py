"""Where a bundle lies: at a path, in the package, or in the cache of pulled models.

What must stay true: a bundle at a path or in the package is found without the hub and its client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from twinlens.bundle.pull.source import parse_source

BUILTIN = "builtin"
_HERE = Path(__file__).parent


def find_bundle(
    path_or_name: str | Path = BUILTIN,
    precisions: Sequence[str] = ("fp32",),
    *,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Return the folder of a bundle given by path, by the name `builtin`, or by a source.

    A source is pulled into the cache if it is not there, at `precisions`; `tell` gets a line for
    each step that takes time.
    """
    if str(path_or_name) == BUILTIN and not Path(BUILTIN, "bundle.json").exists():
        return _HERE / BUILTIN
    source = parse_source(path_or_name)
    if source is None:
        return Path(path_or_name).expanduser()
    from twinlens.bundle.pull.bundle_cache import BundleCache, PullRequest
    from twinlens.bundle.pull.options import PullOptions

    wanted = ("fp32", *sorted(set(precisions) - {"fp32"}))  # the others are measured against it
    request = PullRequest(source, PullOptions(precisions=wanted))
    cache = BundleCache(tell=tell) if tell else BundleCache()
    return cache.open(request)
