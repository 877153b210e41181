"""Files on object storage, through fsspec: `s3://bucket/photos`, `gs://`, `az://`, `memory://`.

What must stay true: a listing tells of each object what changes when the object does, so that an
unchanged one is not fetched again; an object that cannot be read fails as a file does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlens.errors import InputError, MissingDependencyError

MARKS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "created")


@dataclass(frozen=True)
class RemoteFile:
    """One object: its name below the folder, its address, and the mark of its content."""

    name: str
    url: str
    mark: str


def is_remote(source: str | Path) -> bool:
    """Return whether a source is an address of object storage."""
    return isinstance(source, str) and "://" in source


def list_files(url: str) -> Iterator[RemoteFile]:
    """Yield the objects below an address, by name, without hidden ones."""
    system, root = _open_system(url)
    scheme = url.partition("://")[0]
    try:
        found = system.find(root, detail=True)
    except OSError as error:
        raise InputError(
            f"{url} cannot be listed: {error}; check the address and the keys"
        ) from error
    for path, told in sorted(found.items()):
        name = path.removeprefix(root).lstrip("/")
        if not any(part.startswith(".") for part in name.split("/")):
            mark = next((str(told[key]) for key in MARKS if told.get(key)), "")
            size = told.get("size", 0)
            yield RemoteFile(name, f"{scheme}://{path.lstrip('/')}", f"{size} {mark}")


def read_url(url: str) -> bytes:
    """Return the bytes of an object; every failure is an `OSError`."""
    system, path = _open_system(url)
    try:
        body: bytes = system.cat_file(path)
    except OSError:
        raise
    except Exception as error:  # each service has errors of its own
        raise OSError(f"{url}: {error}") from error
    return body


def upload_folder(folder: Path, url: str) -> None:
    """Copy the files of a folder below an address that holds none."""
    system, root = _open_system(url)
    if system.exists(root) and system.find(root):
        raise InputError(f"{url} is not empty; export to a new place", field="out")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            place = f"{root}/{path.relative_to(folder).as_posix()}"
            system.makedirs(place.rpartition("/")[0], exist_ok=True)
            system.put_file(str(path), place)


def download_folder(url: str, folder: Path) -> None:
    """Copy the objects below an address into a folder."""
    system, _ = _open_system(url)
    for one in list_files(url):
        place = folder / one.name
        place.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(one.url.partition("://")[2], str(place))


def _open_system(url: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    try:
        import fsspec
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"{url} needs fsspec: pip install 'twinlens[remote]'"
        ) from None
    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{url} cannot be opened: {error}; install fsspec's library for it, s3fs for s3://"
        ) from error
    system.invalidate_cache()
    return system, root.rstrip("/")
