"""`twinlens index cluster`, `select` and `outliers`: what a collection holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlens.cli.index.options import Folder, OptionalBundle
from twinlens.cli.options import Json, open_encoder
from twinlens.cli.terminal import print_json, print_note

if TYPE_CHECKING:
    from twinlens.index.collection import Collection
    from twinlens.index.hits import Hit

SHOWN = 12  # items of a cluster on a page
SheetFile = Annotated[Path | None, typer.Option(help="Write a page here.", metavar="FILE")]


def cluster(
    folder: Folder,
    count: Annotated[
        int | None,
        typer.Option("-n", help="Number of clusters; default: depends on the size.", min=1),
    ] = None,
    names: Annotated[int, typer.Option(help="Number of words in a cluster's name.", min=0)] = 3,
    bundle: OptionalBundle = None,
    sheet: SheetFile = None,
    json: Json = False,
) -> None:
    """Group the items by similarity, and name each group with words of nearby captions.

    [bold]Example:[/] twinlens index cluster photos.index -n 20 --sheet clusters.html
    """
    from twinlens.index.collection import Collection
    from twinlens.index.upkeep.clusters import cluster_rows
    from twinlens.index.upkeep.live_rows import read_live_rows

    with Collection(folder) as collection:
        rids, rows = read_live_rows(collection.snapshot())
        if not len(rids):
            print_note(f"{folder} is empty")
            return
        found = cluster_rows(rows, count or max(1, min(100, round(math.sqrt(len(rows) / 2)))))
        named = [[""]] * len(found.centres)
        if names:
            named = _name(collection, found, rows, bundle, names)
        groups: list[dict[str, Any]] = []
        for number, words in enumerate(named):
            members = found.members(number)
            ids = _ids_of(collection, rids[members].tolist())
            groups.append({"names": words, "count": len(ids), "ids": ids})
        if sheet:
            _write_groups(collection, groups, sheet)
    if json:
        print_json(groups)
        return
    for group in groups:
        typer.echo(f"{group['count']:6}  {', '.join(group['names'])}  ({group['ids'][0]})")


def select(
    folder: Folder,
    count: Annotated[int, typer.Option("-n", help="Items to choose.", min=1)],
    sheet: SheetFile = None,
    json: Json = False,
) -> None:
    """Choose a diverse subset: each new item is the one least similar to those chosen.

    [bold]Example:[/] twinlens index select photos.index -n 100 --json
    """
    from twinlens.index.collection import Collection
    from twinlens.index.upkeep.live_rows import read_live_rows
    from twinlens.index.upkeep.selection import select_diverse

    with Collection(folder) as collection:
        rids, rows = read_live_rows(collection.snapshot())
        chosen, covered = select_diverse(rows, count)
        ids = _ids_of(collection, [int(rids[place]) for place in chosen])
        if sheet:
            _write(_hits(collection, ids), f"{len(ids)} of {len(rids)}", sheet)
    if json:
        print_json({"ids": ids, "covered": covered})
        return
    for name in ids:
        typer.echo(name)
    print_note(f"{len(ids)} of {len(rids)}; every other item has a cosine of {covered:.3f} to one")


def outliers(
    folder: Folder,
    count: Annotated[int, typer.Option("-n", help="Items to print.", min=1)] = 20,
    label: Annotated[
        str | None,
        typer.Option(
            help="List labels of this field that neighbours disagree with.", metavar="FIELD"
        ),
    ] = None,
    sheet: SheetFile = None,
    json: Json = False,
) -> None:
    """Print the items least similar to any other, or those with a label unlike their neighbours'.

    [bold]Example:[/] twinlens index outliers photos.index --label label
    """
    from twinlens.index.collection import Collection

    with Collection(folder) as collection:
        found = _disagreements(collection, label, count) if label else _far(collection, count)
        if sheet:
            _write(_hits(collection, [one["id"] for one in found]), "Outliers", sheet)
    if json:
        print_json(found)
        return
    for one in found:
        rest = (
            f"{one['label']}, neighbours: {one['expected']} ({one['share']:.0%})"
            if label
            else f"{one['cosine']:.4f}"
        )
        typer.echo(f"{one['id']}  {rest}")


def _far(collection: Collection, count: int) -> list[dict[str, Any]]:
    from twinlens.index.upkeep.outliers import find_outliers

    return [{"id": one.item.id, "cosine": one.cosine} for one in find_outliers(collection, count)]


def _disagreements(collection: Collection, label: str, count: int) -> list[dict[str, Any]]:
    from twinlens.index.upkeep.outliers import find_disagreements

    return [
        {"id": one.item.id, "label": one.label, "expected": one.expected, "share": one.share}
        for one in find_disagreements(collection, label, count)
    ]


def _name(
    collection: Collection, found: Any, rows: Any, bundle: str | None, names: int
) -> list[list[str]]:
    from twinlens.index.upkeep.clusters import name_clusters, read_words

    encoder = open_encoder(bundle or collection.head.bundle_source or "builtin")
    collection.require_bundle(encoder.revision, encoder.name)
    words = read_words(collection.catalog)
    return name_clusters(found, rows, words, encoder.embed_texts(words), names)


def _ids_of(collection: Collection, rids: Sequence[int]) -> list[str]:
    items = collection.catalog.by_rid(rids)
    return [items[rid].id for rid in rids if rid in items]


def _hits(collection: Collection, ids: Sequence[str]) -> list[Hit]:
    from twinlens.index.hits import Hit

    items = collection.catalog.by_id(ids)
    return [Hit(name, 1.0, items[name].metadata) for name in ids if name in items]


def _write(hits: list[Hit], title: str, sheet: Path) -> None:
    from twinlens.index.gallery.contact_sheet import write_sheet

    print_note(f"contact sheet: {write_sheet(hits, title, sheet)}")


def _write_groups(collection: Collection, groups: list[dict[str, Any]], sheet: Path) -> None:
    from twinlens.index.gallery.contact_sheet import write_group_sheet

    shown = [
        (f"{', '.join(one['names'])} ({one['count']})", _hits(collection, one["ids"][:SHOWN]))
        for one in groups
    ]
    print_note(f"contact sheet: {write_group_sheet(shown, 'Clusters', sheet)}")
