"""The cache of pulled bundles: one folder per model, found by the user's name for its source.

What must stay true: a source that was pulled once opens without a hub, and with the same
embeddings, until it is pulled again; a bundle is complete under its name or absent; one process
pulls, others wait for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from twinlens.bundle.manifest import MANIFEST_NAME, Manifest
from twinlens.bundle.pull.convert import write_pulled_bundle
from twinlens.bundle.pull.hub import PUBLIC_HUB, HubRepository, read_access
from twinlens.bundle.pull.hub_failures import describe_full_disk, describe_unwritable, is_disk_full
from twinlens.bundle.pull.options import PullOptions
from twinlens.bundle.pull.repository import FolderRepository, Repository
from twinlens.bundle.pull.shared_files import hold_lock, write_whole
from twinlens.bundle.pull.source import HubName, Source
from twinlens.bundle.store import verify_bundle
from twinlens.cache import find_cache
from twinlens.errors import BundleError

Tell = Callable[[str], None]

_log = logging.getLogger("twinlens.bundle")
_FOLDER = "models"
_OWN_FOLDERS = ("locks", "requests")


@dataclass(frozen=True)
class PullRequest:
    """A source and what to take from it."""

    source: Source
    options: PullOptions = field(default_factory=PullOptions)

    def digest(self) -> str:
        """Return a key of this request; for a folder it depends on the files' sizes and times.

        It names the hub, unless it is the public one: two hubs may have two models of one name.
        """
        marks = [_mark(place) for place in self.source.places]
        text = json.dumps([marks, asdict(self.options)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class CachedBundle:
    """A folder of the cache, the sources that refer to it, and its size."""

    folder: Path
    sources: tuple[str, ...]
    bytes: int


class BundleCache:
    """The folder of pulled bundles."""

    def __init__(self, folder: Path | None = None, *, tell: Tell = _log.info) -> None:
        self._folder = folder or find_cache() / _FOLDER
        self._tell = tell

    @property
    def folder(self) -> Path:
        """The folder of the bundles; it need not exist yet."""
        return self._folder

    def list(self) -> list[CachedBundle]:
        """Return the bundles, by name, including leftovers of an interrupted pull or removal."""
        sources: dict[str, set[str]] = {}
        for _, record in self._records():
            sources.setdefault(str(record.get("bundle")), set()).add(str(record.get("source")))
        found = []
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if path.is_dir() and path.name not in _OWN_FOLDERS:
                size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
                names = tuple(sorted(sources.get(path.name, ())))
                found.append(CachedBundle(path, names, size))
        return found

    def remove(self, bundle: CachedBundle) -> None:
        """Remove a bundle; processes that have it open keep it. Waits for a pull in progress."""
        try:
            with hold_lock(self._folder / "locks" / f"{bundle.folder.name}.lock"):
                for path, record in self._records():
                    if record.get("bundle") == bundle.folder.name:
                        path.unlink(missing_ok=True)  # first: no process may find half a bundle
                gone = bundle.folder.with_name(f".{bundle.folder.name}.removed")
                shutil.rmtree(gone, ignore_errors=True)
                bundle.folder.rename(gone)
                shutil.rmtree(gone)
        except OSError as error:
            raise describe_unwritable(error, "TWINLENS_CACHE") from error

    def _records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted((self._folder / "requests").glob("*.json")):
            with suppress(OSError, ValueError):
                record = json.loads(path.read_text(encoding="utf-8"))
                if isinstance(record, dict):
                    yield path, record

    def open(self, request: PullRequest) -> Path:
        """Return the bundle of a request; pull it if it is not here."""
        found = self.find(request)
        return self.pull(request) if found is None else found

    def find(self, request: PullRequest) -> Path | None:
        """Return the bundle that an equal request has pulled; contacts no host."""
        try:
            record = json.loads(self._record_path(request).read_text(encoding="utf-8"))
            bundle = self._folder / Path(record["bundle"]).name
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return bundle if (bundle / MANIFEST_NAME).is_file() else None

    def pull(self, request: PullRequest, *, anew: bool = False) -> Path:
        """Pull a request into the cache; with `anew` the hub is asked for its current revision."""
        try:
            with self._lock(f"request-{request.digest()[:32]}", request):
                found = None if anew else self.find(request)
                return found or self._pull(request)
        except OSError as error:
            raise describe_unwritable(error, "TWINLENS_CACHE") from error

    def _pull(self, request: PullRequest) -> Path:
        repositories = open_repositories(request.source, self._tell)
        pinned = replace(request, source=_pin(request.source, repositories))
        name = f"{request.source.name}-{pinned.digest()[:12]}"
        bundle = self._folder / name
        with self._lock(name, request):
            if not _is_whole(bundle):
                write_bundle_of(repositories, bundle, request.options, force=True)
        for known in (request, pinned):
            self._write_record(known, name)
        return bundle

    def _lock(self, name: str, request: PullRequest) -> AbstractContextManager[None]:
        return hold_lock(
            self._folder / "locks" / f"{name}.lock",
            on_wait=lambda: self._tell(f"another process pulls {request.source}; waiting for it"),
        )

    def _record_path(self, request: PullRequest) -> Path:
        return self._folder / "requests" / f"{request.digest()[:32]}.json"

    def _write_record(self, request: PullRequest, name: str) -> None:
        record = {"source": str(request.source), "bundle": name, **asdict(request.options)}
        write_whole(self._record_path(request), json.dumps(record, indent=1) + "\n")


def open_repositories(source: Source, tell: Tell = _log.info) -> tuple[Repository, ...]:
    """Return the repositories of a source: one call to the hub for each."""
    access = read_access()
    return tuple(
        FolderRepository(place)
        if isinstance(place, Path)
        else HubRepository(place, access=access, tell=tell)
        for place in source.places
    )


def write_bundle_of(
    repositories: Sequence[Repository], out: Path, options: PullOptions, *, force: bool = False
) -> Manifest:
    """Write the bundle `out`; a full or read-only disk is an error that says so."""
    try:
        return write_pulled_bundle(repositories, out, options, force=force)
    except OSError as error:
        if is_disk_full(error):
            raise describe_full_disk(" and ".join(r.source for r in repositories)) from error
        if error.filename:
            raise describe_unwritable(error, "-o or TWINLENS_CACHE") from error
        raise


def _is_whole(bundle: Path) -> bool:
    try:
        verify_bundle(bundle)
    except BundleError:
        return False
    return True


def _pin(source: Source, repositories: Sequence[Repository]) -> Source:
    """Return the source at the current commits of its repositories."""
    return Source(
        tuple(
            place if isinstance(place, Path) else HubName(place.repository, repository.revision)
            for place, repository in zip(source.places, repositories, strict=True)
        )
    )


def _mark(place: HubName | Path) -> str:
    if not isinstance(place, Path):
        endpoint = read_access().endpoint
        return str(place) if endpoint == PUBLIC_HUB else f"{place} of {endpoint}"
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*")):
        if path.is_file():
            state = path.stat()
            line = f"{path.relative_to(place)}\0{state.st_size}\0{state.st_mtime_ns}\n"
            digest.update(line.encode())
    return f"{place.resolve()} {digest.hexdigest()}"
