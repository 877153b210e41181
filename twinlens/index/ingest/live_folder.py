"""A folder whose changes a collection follows: files that are added, changed, moved or removed.

A change is only a hint: what lies on disk when it is handled decides. So a change that is told
twice, late or after a restart does no harm, and a killed watch needs no record of its own: the next
one compares the whole folder first, and sees every change from before that comparison on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from threading import Event

from twinlens.errors import InputError, LockedError
from twinlens.index.ann.policy import choose_kinds
from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.corpus import Corpus, pick_images, walk_files
from twinlens.index.ingest.deletions import check_deletions
from twinlens.index.ingest.file_names import is_hidden, is_indexed
from twinlens.index.ingest.intake import IndexingProgress, read_failures, write_failures
from twinlens.index.ingest.reading import ImageEncoder
from twinlens.index.ingest.videos import split_frame
from twinlens.index.maintenance import needs_maintenance, optimise, repeat_plan
from twinlens.index.storage.catalog import Catalog
from twinlens.index.writer import Writer

QUIET_SECONDS = 0.5  # without a change, before a group of changes is handled
LONGEST_SECONDS = 5.0  # that a group grows
POLL_SECONDS = 2.0
WAKE_SECONDS = 1.0  # how often a watch looks whether it should stop, or whether a lock is free


@dataclass(frozen=True)
class LiveFolder:
    """A folder to follow; with `poll` its files are compared every few seconds.

    Without it the system tells of changes, which it cannot for files that another machine writes.
    """

    root: Path
    poll: bool = False
    quiet: float = QUIET_SECONDS

    def check(self) -> None:
        """Raise unless the folder is there: one that was unmounted must not empty a collection."""
        if not self.root.is_dir():
            raise InputError(
                f"{self.root} is not a folder that can be read; nothing was deleted. Mount or"
                " create it, and watch it again",
                field="folder",
            )

    def corpus(self) -> Corpus:
        """Return all images below the folder, which may be none."""
        self.check()
        return pick_images(self.root, [n for n in walk_files(str(self.root)) if is_indexed(n)])

    def watch(self, stop: Event) -> Iterator[set[str]]:
        """Yield the changed paths below the folder, or none once a second, until `stop`.

        The first set comes as soon as the watch has begun; changes after that are never missed.
        """
        from watchfiles import watch

        self.check()
        base = self.root.resolve()
        found = watch(
            base,
            watch_filter=lambda _, path: not is_hidden(_relative(base, path)),
            debounce=int(1000 * LONGEST_SECONDS),
            step=int(1000 * self.quiet),
            stop_event=stop,
            rust_timeout=int(1000 * WAKE_SECONDS),
            yield_on_timeout=True,
            raise_interrupt=False,
            force_polling=self.poll,
            poll_delay_ms=int(1000 * POLL_SECONDS),
        )
        for group in found:
            yield {_relative(base, path) for _, path in group} - {"", "."}


def apply_changes(
    writer: Writer,
    live: LiveFolder,
    paths: Iterable[str],
    encoder: ImageEncoder,
    options: BuildOptions,
) -> IndexingProgress:
    """Bring the items of changed paths in step with the folder; return the counts."""
    live.check()
    changed = set(paths)
    names = sorted({name for path in changed for name in _files_at(live.root, path)})
    known = {id for path in changed for id in _ids_at(writer.catalog, live.root, path)}
    there = set(names)
    gone = sorted(id for id in known if _file_of(id) not in there)
    check_deletions(str(live.root), len(gone), writer.catalog.count(), options.max_delete)
    earlier = [one for one in read_failures(writer.folder) if not _is_at(one["id"], changed)]
    corpus = pick_images(live.root, names)
    progress = build(writer, corpus, encoder, replace(options, keep=True))
    write_failures(writer.folder, earlier + read_failures(writer.folder))
    progress.removed += writer.delete(gone) if gone else 0
    return progress


def follow(
    place: Path,
    live: LiveFolder,
    changes: Iterator[set[str]],
    encoder: ImageEncoder,
    options: BuildOptions,
    observe: Callable[[IndexingProgress], None] = lambda progress: None,
    warn: Callable[[str], None] = lambda message: None,
) -> None:
    """Apply groups of changes to the collection at `place` until they end.

    The collection is locked only while a group is written. Where another process writes to it, or
    a group would delete too much, the changes wait, and the reason is told once.
    """
    waiting, told, is_refused = set[str](), "", False
    for paths in changes:
        waiting |= paths
        if not waiting or (is_refused and not paths):
            continue
        try:
            with Writer(place) as writer:
                progress = apply_changes(writer, live, waiting, encoder, options)
                maintain(writer)
        except (LockedError, InputError) as error:
            if error.message != told:
                warn(error.message)
            told, is_refused = error.message, not isinstance(error, LockedError)
            continue
        waiting, told, is_refused = set(), "", False
        if progress.embedded or progress.removed or progress.failed:
            observe(progress)


def maintain(writer: Writer) -> None:
    """Compact and index where enough has changed that searches are slower than they need be."""
    snapshot = writer.collection.snapshot()
    bare = sum(len(part.segment) for part in snapshot.parts if part.ann_index is None)
    if needs_maintenance(snapshot) or choose_kinds(bare, snapshot.head.dim, text_sample=False):
        optimise(writer, repeat_plan(snapshot))


def _relative(base: Path, path: str) -> str:
    """Return a path below `base` with forward slashes; "" for `base` itself."""
    return path.removeprefix(str(base)).strip("/")


def _files_at(root: Path, path: str) -> Iterator[str]:
    """Yield the images at a path: itself, or those below it if it is a folder."""
    place = root / path
    if place.is_dir() and not place.is_symlink():
        yield from (name for name in walk_files(str(place), f"{path}/") if is_indexed(name))
    elif place.is_file() and is_indexed(path):
        yield path


def _file_of(id: str) -> str:
    """Return the file of an item below the folder: that of its video, if it is a frame."""
    frame = split_frame(id)
    return id if frame is None else frame[0]


def _is_at(name: str, paths: set[str]) -> bool:
    """Return whether a name is one of the paths, or lies below one."""
    return not paths.isdisjoint([name, *(str(folder) for folder in PurePosixPath(name).parents)])


def _ids_at(catalog: Catalog, root: Path, path: str) -> Iterator[str]:
    """Yield the ids of items whose file is at or below a path of this folder."""
    base = f"{root.resolve()}/"
    found = catalog.select(
        "SELECT id FROM items WHERE id = ? OR (id >= ? AND id < ?) OR (id >= ? AND id < ?)",
        (path, f"{path}/", f"{path}0", f"{path}#", f"{path}$"),  # "0" follows "/", "$" "#"
    )
    ids = [id for (id,) in found]
    items = catalog.by_id(ids)
    yield from (id for id in ids if str(items[id].metadata.get("path", "")).startswith(base))
