"""`twinlens index dedup`: find copies of images, and delete all but one of each group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlens.cli.index.items import confirm
from twinlens.cli.index.options import DryRun, Folder, MaxDelete, Yes
from twinlens.cli.options import Json
from twinlens.cli.terminal import print_json, print_note

if TYPE_CHECKING:
    from twinlens.index.upkeep.copies import CopyGroup


def dedup(
    folder: Folder,
    similarity: Annotated[
        float | None,
        typer.Option(
            help="Compare embeddings alone: a near copy has at least this cosine, e.g. 0.97."
        ),
    ] = None,
    only_exact: Annotated[
        bool, typer.Option("--exact", help="Only find copies with the same pixels or embedding.")
    ] = False,
    keep: Annotated[
        str, typer.Option(help="Item of a group to keep: the `largest` image, or the `first`.")
    ] = "largest",
    sheet: Annotated[
        Path | None, typer.Option(help="Write a page with the groups here.", metavar="FILE")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Delete all items of a group but the one to keep.")
    ] = False,
    max_delete: MaxDelete = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Print groups of copies: same pixels, or the same image resized, re-encoded or cropped.

    [bold]Example:[/] twinlens index dedup photos.index --sheet copies.html
    """
    from twinlens.index.collection import Collection
    from twinlens.index.upkeep.copies import find_copies

    with Collection(folder) as collection:
        groups = find_copies(collection, similarity=similarity, keep=keep, only_exact=only_exact)
        total = len(collection)
    count = sum(len(group.copies) for group in groups)
    if sheet:
        _write(groups, sheet)
    if remove and not dry_run and groups:
        total -= _remove(folder, groups, max_delete, yes)
    if json:
        print_json({"count": total, "copies": count, "groups": [_describe(one) for one in groups]})
        return
    for group in groups:
        typer.echo(f"{group.kept.id}")
        for one in group.copies:
            typer.echo(f"  {one.kind:5}  {one.cosine:.4f}  {one.item.id}")
    done = "deleted" if remove and not dry_run else "would be deleted with --remove"
    print_note(f"{len(groups)} groups, {count} copies {done}, {total} items in the collection")


def _remove(folder: Path, groups: list[CopyGroup], max_delete: str | None, yes: bool) -> int:
    from twinlens.index.upkeep.copies import remove_copies
    from twinlens.index.upkeep.removal import check_removal
    from twinlens.index.writer import Writer

    count = sum(len(group.copies) for group in groups)
    with Writer(folder) as writer:
        check_removal(count, len(writer.collection), max_delete)
        confirm(f"Delete {count} copies of {len(writer.collection)} items of {folder}?", yes)
        return remove_copies(writer, groups, max_delete)


def _write(groups: list[CopyGroup], sheet: Path) -> None:
    from twinlens.index.gallery.contact_sheet import write_group_sheet
    from twinlens.index.hits import Hit

    shown = [
        (
            f"{group.kept.id} and {len(group.copies)} copies",
            [
                Hit(group.kept.id, 1.0, group.kept.metadata),
                *(Hit(one.item.id, one.cosine, one.item.metadata) for one in group.copies),
            ],
        )
        for group in groups
    ]
    print_note(f"contact sheet: {write_group_sheet(shown, 'Copies', sheet)}")


def _describe(group: CopyGroup) -> dict[str, Any]:
    copies = [
        {"id": one.item.id, "kind": one.kind, "cosine": round(one.cosine, 6)}
        for one in group.copies
    ]
    return {"keep": group.kept.id, "copies": copies}
