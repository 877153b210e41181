"""A repository on a model hub: one call lists it, and only requested files are fetched.

What must stay true: the environment (`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`) is
read when a pull begins, and the client is not imported before; every failure is one line.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from twinlens.bundle.pull.hub_download import HubCache, HubFile, download_file
from twinlens.bundle.pull.hub_failures import Asked, describe_offline, explain_failure
from twinlens.bundle.pull.repository import CARD_NAME, read_licence
from twinlens.bundle.pull.shared_files import write_whole
from twinlens.bundle.pull.source import HubName
from twinlens.errors import NotFoundError, PullError, TwinlensError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

PUBLIC_HUB = "https://huggingface.co"
_COMMIT = re.compile(r"[0-9a-fA-F]{40,64}")
_TRUE = ("1", "ON", "YES", "TRUE")
_SECONDS = 10.0  # seconds for the listing
_TOLD_BYTES = 1_000_000  # bytes: progress of smaller downloads is not shown


@dataclass(frozen=True)
class HubAccess:
    """The environment's settings for the hub."""

    cache: HubCache
    is_offline: bool

    @property
    def endpoint(self) -> str:
        """The hub's address."""
        return self.cache.endpoint


def read_access(environment: Mapping[str, str] = os.environ) -> HubAccess:
    """Return the current settings: the client reads them only once, when it is imported."""
    base = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(environment.get("HF_HOME") or base / "huggingface")
    chosen = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    folder = Path(os.path.expandvars(chosen or home / "hub")).expanduser()
    endpoint = (environment.get("HF_ENDPOINT") or PUBLIC_HUB).rstrip("/")
    offline = environment.get("HF_HUB_OFFLINE") or environment.get("TRANSFORMERS_OFFLINE") or ""
    return HubAccess(HubCache(endpoint, folder), offline.upper() in _TRUE)


class HubRepository:
    """The files of one model at one commit of a hub."""

    def __init__(
        self,
        name: HubName,
        *,
        access: HubAccess | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """List the repository; if the hub is unreachable, its files in the cache."""
        self._access = access or read_access()
        self._name = name
        self._tell = tell
        self._asked = Asked(self._access.endpoint, name.repository, name.revision)
        self._hashes: dict[str, str] = {}
        self._is_cached = False
        self.source = str(name)
        self.card = f"{self._access.endpoint}/{name.repository}"
        self.licence = ""
        self.revision = ""
        self.files: Mapping[str, int] = {}
        self._list()

    def fetch(self, paths: Iterable[str]) -> Path:
        """Return a folder of the client's cache that holds `paths`, each with its hash checked."""
        wanted = list(dict.fromkeys(paths))
        for path in wanted:
            if path not in self.files:
                where = "cached copy of " if self._is_cached else ""
                raise NotFoundError(f"the {where}{self.source} holds no {path!r}", field="source")
        folder = self._snapshot()
        missing = [path for path in wanted if not (folder / path).exists()]
        size = sum(self.files[path] for path in missing)
        if size >= _TOLD_BYTES:
            self._tell(f"fetching {len(missing)} files ({size / 1e6:.1f} MB) of {self.source}")
        for path in wanted:
            self._fetch_one(path)
        self._remember_commit()
        return folder

    def _fetch_one(self, path: str) -> None:
        file = HubFile(
            self._name.repository,
            self.revision,
            path,
            self.files[path],
            self._hashes.get(path, ""),
        )
        asked = Asked(self._access.endpoint, self._name.repository, self._name.revision, path)
        try:
            download_file(file, self._access.cache, self._tell)
        except Exception as error:
            _raise_explained(error, asked)

    def _list(self) -> None:
        """Fill in the commit, the files and the licence."""
        if self._access.is_offline:
            self._list_cached("HF_HUB_OFFLINE is set")
            return
        try:
            info = self._ask()
        except Exception as error:
            failure = explain_failure(error, self._asked)
            if not isinstance(failure, PullError) or failure.code != "unreachable":
                _raise_explained(error, self._asked)
            self._list_cached(f"{self._access.endpoint} cannot be reached", failure)
            return
        self.revision = _check_commit(info.sha or "", self._asked)
        self.licence = _find_licence(info)
        self._read_files(info)

    def _ask(self) -> ModelInfo:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self._access.endpoint).model_info(
            self._name.repository,
            revision=self._name.revision or None,
            files_metadata=True,
            timeout=_SECONDS,
        )

    def _read_files(self, info: ModelInfo) -> None:
        """Take sizes and hashes from the listing; ask again if it leaves sizes out."""
        entries = list(info.siblings or [])
        sizes = {entry.rfilename: entry.size for entry in entries}
        if any(size is None for size in sizes.values()):
            sizes = self._ask_sizes()
        for path in sizes:
            _check_path(path, self.source)
        self.files = {path: int(size or 0) for path, size in sorted(sizes.items())}
        for entry in entries:
            sha256: Any = entry.lfs and entry.lfs.sha256
            if sha256:
                self._hashes[entry.rfilename] = str(sha256)

    def _ask_sizes(self) -> dict[str, int | None]:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        try:
            entries = HfApi(endpoint=self._access.endpoint).list_repo_tree(
                self._name.repository, recursive=True, revision=self.revision
            )
            return {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
        except Exception as error:
            _raise_explained(error, self._asked)

    def _list_cached(self, reason: str, failure: TwinlensError | None = None) -> None:
        """Use the files of an earlier fetch; raise if there are none."""
        self._is_cached = True
        self.revision = self._find_commit()
        folder = self._snapshot()
        paths = (
            sorted(path for path in folder.rglob("*") if path.is_file()) if self.revision else []
        )
        if not paths:
            raise failure or describe_offline(self._asked, reason)
        self.files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
        self.licence = read_licence(folder / CARD_NAME)
        self._tell(f"{reason}: using the {len(paths)} files of {self.source} in the cache")

    def _remember_commit(self) -> None:
        """Record the commit of the revision, as the client does, for use without the hub."""
        folder = self._access.cache.repository_folder(self._name.repository)
        reference = folder / "refs" / (self._name.revision or "main")
        if self._name.revision != self.revision:
            with contextlib.suppress(OSError):  # a read-only cache
                write_whole(reference, self.revision)

    def _find_commit(self) -> str:
        """Return the revision's commit at the last contact with the hub."""
        folder = self._access.cache.repository_folder(self._name.repository)
        revision = self._name.revision or "main"
        reference = folder / "refs" / revision
        if reference.is_file():
            return reference.read_text().strip()
        return revision if (folder / "snapshots" / revision).is_dir() else ""

    def _snapshot(self) -> Path:
        folder = self._access.cache.repository_folder(self._name.repository)
        return folder / "snapshots" / self.revision


def _raise_explained(error: Exception, asked: Asked) -> NoReturn:
    explained = explain_failure(error, asked)
    raise explained from (None if explained is error else error)


def _find_licence(info: ModelInfo) -> str:
    data: Any = info.card_data
    found = data.get("license") if data is not None else None
    tagged = [tag.partition(":")[2] for tag in info.tags or [] if tag.startswith("license:")]
    return str(found or (tagged[0] if tagged else ""))


def _check_commit(commit: str, asked: Asked) -> str:
    """Return the commit, which becomes the name of a folder, if it looks like one."""
    if not _COMMIT.fullmatch(commit):
        raise PullError(
            f"{asked.endpoint} names the commit {commit!r} for {asked.what}; check HF_ENDPOINT: it"
            " must be the address of a model hub",
            code="damaged",
        )
    return commit


def _check_path(path: str, source: str) -> None:
    """Refuse a listing with a file outside the folder."""
    if path.startswith("/") or "\\" in path or ".." in path.split("/"):
        raise PullError(
            f"{source} lists the file {path!r}, which is outside of it; do not trust this"
            " repository",
            code="damaged",
        )
