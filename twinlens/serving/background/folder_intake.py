"""Adding the pictures of a folder on this machine to a collection, as a job.

Only below folders that the operator allowed (`folders`), for clients on this machine; symbolic
links are followed before that is checked. What must stay true: a path outside is refused with the
same words whether it exists or not; a file that cannot be read fails alone; what was embedded is
searchable at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.bundle.image.exif import read_photo
from twinlens.errors import InputError, OverloadedError, TwinlensError
from twinlens.index.collection import Collection
from twinlens.index.ingest.corpus import pick_images, walk_files
from twinlens.index.ingest.entries import CorpusEntry
from twinlens.index.ingest.file_names import is_image
from twinlens.index.ingest.versions import content_version, has_content
from twinlens.serving.call import Call, Priority
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.failures import ForbiddenError
from twinlens.serving.jobs import Job
from twinlens.serving.service import Service

KIND = "folder"
MOST_FAILURES = 200  # that a job's result lists
_STEP = 16
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "via")


@dataclass(frozen=True)
class ReadFile:
    """A file of the folder: its bytes, version and metadata, or why it failed."""

    entry: CorpusEntry
    raw: bytes = b""
    version: str = ""
    metadata: Mapping[str, Any] | None = None
    fault: str = ""


class FolderJobs:
    """Starts and runs the jobs that add folders."""

    def __init__(self, service: Service, store: CollectionStore) -> None:
        self._service = service
        self._store = store
        self._roots = tuple(service.settings.folders)
        service.jobs.register(KIND, self.run)

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders that the operator allowed."""
        return self._roots

    def start(self, served: ServedCollection, path: str, model: str) -> Job:
        """Start adding a folder that is allowed."""
        folder = find_allowed(path, self._roots)
        names = [name for name in walk_files(str(folder)) if is_image(name)]
        if not names:
            raise InputError("this folder has no picture in a supported format", field="path")
        spec = {"name": served.name, "path": str(folder), "model": model}
        return self._service.jobs.start(KIND, spec, total=len(names))

    async def run(self, job: Job) -> dict[str, Any]:
        """Embed the pictures of the folder step by step, and write each step."""
        folder = find_allowed(job.spec["path"], self._roots)
        served = self._store.find(job.spec["name"])
        names = await asyncio.to_thread(
            lambda: [name for name in walk_files(str(folder)) if is_image(name)]
        )
        job.total = max(1, len(names))
        entries = pick_images(folder, names).entries()
        counts = {"added": 0, "unchanged": 0}
        faults: list[dict[str, str]] = []
        with self._service.registry.lease(job.spec["model"]) as model:
            while chunk := list(itertools.islice(entries, _STEP)):
                read = await served.read(partial(_read_all, folder=folder, entries=chunk))
                failed = await self._add(served, model, folder.name, read, counts)
                faults += [
                    {"id": f"{folder.name}/{name}", "error": fault}
                    for name, fault in failed.items()
                ]
                job.done += len(chunk)
        listed = {"failed": faults[:MOST_FAILURES], "failed_count": len(faults)}
        return {"collection": served.name, **counts, **listed}

    async def _add(
        self,
        served: ServedCollection,
        model: ServedModel,
        folder: str,
        read: Sequence[ReadFile],
        counts: dict[str, int],
    ) -> dict[str, str]:
        """Embed and write the files that are new or changed; return why others failed."""
        faults = {one.entry.id: one.fault for one in read if one.fault}
        fresh = [one for one in read if one.raw]
        counts["unchanged"] += len(read) - len(fresh) - len(faults)
        rows = await _embed(model, [one.raw for one in fresh]) if fresh else []
        good = []
        for one, row in zip(fresh, rows, strict=True):
            if isinstance(row, Exception):
                is_told = isinstance(row, TwinlensError)
                faults[one.entry.id] = str(row) if is_told else "internal error"
            else:
                good.append((one, row))
        if good:
            ids = [f"{folder}/{one.entry.id}" for one, _ in good]
            matrix = np.stack([np.asarray(row, np.float32) for _, row in good])
            metadata = [dict(one.metadata or {}) for one, _ in good]
            versions = [one.version for one, _ in good]
            await served.write(
                lambda writer: writer.upsert(
                    ids, matrix, metadata, versions, revision=model.revision
                )
            )
            counts["added"] += len(good)
        return faults


def find_allowed(path: str, roots: Sequence[str]) -> Path:
    """Return the folder at a path, links followed, if it lies in one that is allowed."""
    if not roots:
        raise ForbiddenError(
            "this server adds no folders; start it with --allow-folder DIR", field="path"
        )
    refused = ForbiddenError(
        "this folder is not inside an allowed one; the operator allows folders with --allow-folder",
        field="path",
    )
    try:
        place = Path(path).expanduser().resolve(strict=True)
        bases = [Path(root).expanduser().resolve(strict=True) for root in roots]
        is_allowed = any(place.is_relative_to(base) for base in bases) and place.is_dir()
        is_hidden = any(part.startswith(".") for part in _inside(place, bases).parts)
    except (OSError, RuntimeError, ValueError):
        raise refused from None
    if not is_allowed or is_hidden:
        raise refused
    return place


def require_local(client: str | None, server: str | None, headers: Mapping[str, str]) -> None:
    """Refuse a request unless client and server are on this machine, without a proxy between."""
    is_passed_on = any(name in headers for name in _PROXY_HEADERS)
    if is_passed_on or not (_is_loopback(client) and _is_loopback(server)):
        raise ForbiddenError(
            "folders are added from this machine alone; send the pictures instead", field="path"
        )


def _inside(place: Path, bases: Sequence[Path]) -> Path:
    """Return a path from the allowed folder that it lies in; raise `ValueError` outside."""
    for base in bases:
        if place.is_relative_to(base):
            return place.relative_to(base)
    raise ValueError(place)


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def _read_all(
    collection: Collection, folder: Path, entries: Sequence[CorpusEntry]
) -> list[ReadFile]:
    known = collection.catalog.by_id([f"{folder.name}/{entry.id}" for entry in entries])
    versions = {name: item.version for name, item in known.items()}
    return [_read(entry, versions.get(f"{folder.name}/{entry.id}", "")) for entry in entries]


def _read(entry: CorpusEntry, old: str) -> ReadFile:
    """Read one file; nothing is kept of one that has not changed."""
    try:
        raw = entry.read()
    except OSError as error:
        return ReadFile(entry, fault=error.strerror or "cannot be read")
    except InputError as error:
        return ReadFile(entry, fault=error.message)
    metadata = {**read_photo(raw, place=True), **entry.metadata}
    version = content_version(raw, metadata)
    if has_content(old, version):
        return ReadFile(entry)
    return ReadFile(entry, raw, version, metadata, fault="" if raw else "the file is empty")


async def _embed(model: ServedModel, images: Sequence[bytes]) -> list[Any]:
    """Embed pictures at background priority; a bad picture yields its error."""
    while True:
        call = Call(model.clock, float("inf"), pixels_left=1 << 62, priority=Priority.BACKGROUND)
        try:
            return list((await model.embed_images(images, call)).answers)
        except OverloadedError:  # live requests fill the queue; retry later
            await asyncio.sleep(0.1)
