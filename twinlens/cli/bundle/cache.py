"""`twinlens cache`: the bundles that were pulled, listed and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import Json
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinlens.bundle.pull.bundle_cache import CachedBundle

app = typer.Typer(
    help="""List and remove the bundles that were pulled.

    [bold]Example:[/] twinlens cache list""",
    no_args_is_help=True,
)


@app.command("list")
def list_bundles(json: Json = False) -> None:
    """List the pulled bundles: source, size and folder.

    [bold]Example:[/] twinlens cache list
    """
    from twinlens.bundle.pull.bundle_cache import BundleCache

    cache = BundleCache()
    found = cache.list()
    if json:
        print_json([_describe(one) for one in found])
        return
    for one in found:
        typer.echo(f"{one.bytes / 1e6:9.1f} MB  {', '.join(one.sources) or '-'}  {one.folder}")
    total = sum(one.bytes for one in found)
    print_note(f"{len(found)} bundles, {total / 1e6:.1f} MB, in {cache.folder}")


@app.command()
def remove(
    sources: Annotated[
        list[str],
        typer.Argument(help="Sources as given to pull, or names of folders.", metavar="SOURCE"),
    ],
    json: Json = False,
) -> None:
    """Remove pulled bundles; they are pulled again on next use.

    [bold]Example:[/] twinlens cache remove hf:Xenova/clip-vit-base-patch32
    """
    from twinlens.bundle.pull.bundle_cache import BundleCache

    cache = BundleCache()
    found = cache.list()
    chosen = [one for one in found if not {*one.sources, one.folder.name}.isdisjoint(sources)]
    known = {name for one in found for name in (*one.sources, one.folder.name)}
    unknown = [source for source in sources if source not in known]
    if unknown:
        there = ", ".join(sorted(source for one in found for source in one.sources)) or "none"
        raise NotFoundError(
            f"{unknown[0]!r} is not in the cache; it holds: {there}", field="source"
        )
    _remove(chosen, json)


@app.command()
def clear(json: Json = False) -> None:
    """Remove all pulled bundles; they are pulled again on next use.

    [bold]Example:[/] twinlens cache clear
    """
    from twinlens.bundle.pull.bundle_cache import BundleCache

    _remove(BundleCache().list(), json)


def _remove(chosen: Sequence[CachedBundle], json: bool) -> None:
    from twinlens.bundle.pull.bundle_cache import BundleCache

    cache = BundleCache(tell=print_note)
    for one in chosen:
        cache.remove(one)
    freed = sum(one.bytes for one in chosen)
    if json:
        print_json({"removed": [_describe(one) for one in chosen], "bytes": freed})
        return
    print_note(
        f"{len(chosen)} bundles removed, {freed / 1e6:.1f} MB; downloaded files stay in"
        " the hub client's own cache (`hf cache`)"
    )


def _describe(one: CachedBundle) -> dict[str, object]:
    return {"sources": list(one.sources), "bytes": one.bytes, "folder": str(one.folder)}
