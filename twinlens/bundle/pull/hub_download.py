"""Downloads one file of a hub into the client's cache, resumes where it stopped, and checks it.

The client (huggingface_hub) resumes a broken connection, but from version 2 on it drops what an
ended process has received. So large files are downloaded here first, by plain HTTP, as
`blobs/HASH.incomplete` in the client's own cache; the client finds the finished blob and links it.
What must stay true: a file has the hash that the hub states, or it is neither returned nor kept;
bytes received by a killed process are not requested again.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from twinlens.bundle.pull.shared_files import hold_lock
from twinlens.bundle.pull.transfer import Progress, Tell, receive
from twinlens.errors import PullError

_CHUNK = 1 << 20
_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
RESUMED_BYTES = 1 << 20  # smaller files restart from the beginning


@dataclass(frozen=True)
class HubFile:
    """One file of a repository at a commit."""

    repository: str
    commit: str
    path: str
    size: int
    sha256: str = ""  # as the listing states it; empty for files that git holds itself


@dataclass(frozen=True)
class HubCache:
    """The client's cache folder, and the hub that fills it."""

    endpoint: str
    folder: Path

    def repository_folder(self, repository: str) -> Path:
        """Return the folder of a repository, by the client's documented layout."""
        return self.folder / f"models--{repository.replace('/', '--')}"


def download_file(file: HubFile, cache: HubCache, tell: Tell = lambda line: None) -> Path:
    """Return the checked file in the cache; fetch it if it is not there."""
    from huggingface_hub import hf_hub_download

    is_large = file.size >= RESUMED_BYTES and not _snapshot_path(file, cache).exists()
    is_checked = is_large and _download_blob(file, cache, tell)
    path = Path(
        hf_hub_download(
            file.repository,
            file.path,
            revision=file.commit,
            cache_dir=cache.folder,
            endpoint=cache.endpoint,
        )
    )
    fault = "" if is_checked else find_fault(path, file, path.resolve().name)
    if fault:
        _drop(path)
        raise describe_damage(file, fault)
    return path


def find_fault(path: Path, file: HubFile, name: str) -> str:
    """Return what is wrong with a downloaded file; empty if it is as the hub says.

    The name of a cached blob is the hash of its content: SHA-256 for large files, git's for others.
    The listing's SHA-256 takes precedence.
    """
    size = path.stat().st_size
    if size != file.size:
        return f"has {size} bytes, the hub says {file.size}"
    told = file.sha256 or name
    if len(told) == 64 and told != _hash(path, hashlib.sha256()):
        return f"does not have the SHA-256 {told[:12]}... that the hub names"
    if len(told) == 40 and told not in (_hash_as_git(path), _hash(path, hashlib.sha1())):
        return f"does not have the hash {told[:12]}... that the hub names"
    return ""


def describe_damage(file: HubFile, fault: str) -> PullError:
    """Return the error for a file that differs from the hub's listing; it was removed."""
    return PullError(
        f"{file.path!r} of hf:{file.repository} {fault}; it was damaged in transit and removed:"
        " run this again",
        code="damaged",
    )


def _download_blob(file: HubFile, cache: HubCache, tell: Tell) -> bool:
    """Fetch a large file as a blob of the cache, from where an earlier try stopped.

    Return whether it was fetched and checked now, and not already by another process.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(file.repository, file.path, revision=file.commit, endpoint=cache.endpoint)
    etag = get_hf_file_metadata(url, endpoint=cache.endpoint).etag or ""
    if not _PLAIN.fullmatch(etag):
        raise describe_damage(file, f"has the tag {etag!r}, which names no file")
    folder = cache.repository_folder(file.repository)
    blob = folder / "blobs" / etag
    with hold_lock(cache.folder / ".locks" / folder.name / f"{etag}.lock"):
        if blob.exists():
            return False
        blob.parent.mkdir(parents=True, exist_ok=True)
        partial = blob.with_name(f"{blob.name}.incomplete")
        if partial.exists() and partial.stat().st_size > file.size:
            partial.unlink()
        with Progress(file.path, file.size, tell) as progress:
            receive(url, partial, file.size, progress)
        fault = find_fault(partial, file, etag)
        if fault:
            partial.unlink()
            raise describe_damage(file, fault)
        partial.replace(blob)
    return True


def _snapshot_path(file: HubFile, cache: HubCache) -> Path:
    return cache.repository_folder(file.repository) / "snapshots" / file.commit / file.path


def _drop(path: Path) -> None:
    """Remove a cached file and the blob that it links to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _hash_as_git(path: Path) -> str:
    return _hash(path, hashlib.sha1(f"blob {path.stat().st_size}\0".encode()))


def _hash(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
