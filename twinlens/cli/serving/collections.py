"""The collections that `twinlens serve` opens: named ones, stored ones, one built at startup."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twinlens.cache import find_cache
from twinlens.cli.terminal import print_note
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.serving.collections.store import CollectionStore

COLLECTIONS_FOLDER = "collections"


@dataclass(frozen=True)
class Images:
    """A corpus that the server indexes first, and what of EXIF becomes metadata."""

    source: Path
    exif: bool | None = None
    place: bool = True
    watch: bool = False


def open_collections(
    named: list[str], images: Images | None, data: Path | None, bundle: str
) -> CollectionStore:
    """Return the collection store of a server; `images` is indexed with `bundle` first."""
    from twinlens.serving.collections.store import CollectionStore

    store = CollectionStore(data / COLLECTIONS_FOLDER if data else None)
    try:
        for name, path in read_named(named):
            store.add(name, path if "://" in path else Path(path))
        if images is not None:
            store.add("images", index_images(images, data, bundle))
    except BaseException:
        store.close()
        raise
    return store


def read_named(given: list[str]) -> list[tuple[str, str]]:
    """Return names and folders, or addresses, of collections given as NAME=DIR."""
    found = []
    for text in given:
        name, sign, path = text.partition("=")
        if not sign or not name or not path:
            raise InputError(
                f"--collection {text!r} is not NAME=DIR or NAME=postgresql://...",
                field="collection",
            )
        found.append((name, path))
    return found


def index_images(images: Images, data: Path | None, bundle: str) -> Path:
    """Build the collection of a corpus in a fixed folder, which the next start reuses.

    There is one folder per bundle revision: after an upgrade the images are indexed again.
    """
    from twinlens.cli.index.index import build

    source, folder = images.source, find_place(images, data, bundle)
    print_note(f"indexing {source} into {folder}")
    build(str(source), folder, bundle=bundle, exif=images.exif, place=images.place)
    return folder


def find_place(images: Images, data: Path | None, bundle: str) -> Path:
    """Return the folder of a corpus's collection."""
    from twinlens.bundle.encoder import find_bundle
    from twinlens.bundle.store import read_manifest

    revision = read_manifest(find_bundle(bundle)).revision
    source = images.source
    mark = hashlib.sha256(f"{source.resolve()}\0{revision}".encode()).hexdigest()[:12]
    return (data or find_cache()) / "images" / f"{source.name or 'root'}-{mark}"


@contextmanager
def following(
    images: Images | None, data: Path | None, bundle: str
) -> Iterator[Callable[[], None]]:
    """Watch the folder of `images`; yield the function that starts to apply changes.

    It also applies the changes made while the folder was being indexed.
    """
    if images is None or not images.watch:
        yield lambda: None
        return
    from twinlens.cli.index.watch import FolderFollower
    from twinlens.cli.options import open_encoder
    from twinlens.index.ingest.builder import BuildOptions
    from twinlens.index.ingest.live_folder import LiveFolder

    options = BuildOptions(exif=images.exif, place=images.place)
    follower = FolderFollower(
        find_place(images, data, bundle), LiveFolder(images.source), open_encoder(bundle), options
    )
    try:
        yield follower.start
    finally:
        follower.close()
