"""Opens any data by its path; the only module that knows all kinds of data."""

from __future__ import annotations

from pathlib import Path

from twinlens.errors import InputError, NotFoundError
from twinlens.training.data.braces import expand_braces
from twinlens.training.data.folder import FolderSource
from twinlens.training.data.listing.files import open_files
from twinlens.training.data.mixture import MIX, MixedSource
from twinlens.training.data.records import DataSource
from twinlens.training.data.table import TableSource
from twinlens.training.data.tars import TarSource
from twinlens.training.data.zipped import ZipSource

KINDS = (
    "an image folder, a .zip, .tar shards (a glob or {000..099} works, s3:// too), a .csv, .tsv or"
    " .parquet, or a .mix of such data"
)


def open_source(where: str | Path) -> DataSource:
    """Return the source for a path, a glob or brace list of tars, or an address in a store."""
    source = _open(str(where))
    if not source.records:
        raise InputError(f"{where} holds no images; expected {KINDS}")
    return source


def _open(where: str) -> DataSource:
    if "://" in where:
        return TarSource(_list_shards(where))
    path = Path(where)
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        return TarSource(shards) if shards else FolderSource(path)
    if "{" in where and not path.exists():
        return TarSource(_list_shards(where))
    found = open_files(where).find(where)
    if not found:
        raise NotFoundError(f"{where} does not exist; data is {KINDS}")
    if Path(found[0]).suffix == ".tar":
        return TarSource(found)
    if path.suffix == ".zip":
        return ZipSource(path)
    if path.suffix in (".csv", ".tsv", ".parquet"):
        return TableSource(path)
    if path.suffix == MIX:
        return MixedSource(path, open_source)
    raise InputError(f"{where} is not readable data; expected {KINDS}")


def _list_shards(where: str) -> list[str]:
    """Return the tars of a brace list or of store addresses; each must exist."""
    files = open_files(where)
    shards = [
        shard
        for name in expand_braces(where)
        for shard in (files.find(name) if "*" in name else [name])
    ]
    missing = [shard for shard in shards if files.facts(shard) is None]
    if missing or not shards:
        raise NotFoundError(
            f"{where}: {len(missing)} of its {len(shards)} files do not exist, the first is"
            f" {(missing or [where])[0]}",
            field="DATA",
        )
    other = next((shard for shard in shards if not shard.lower().endswith(".tar")), None)
    if other is not None:
        raise InputError(f"{where} names {other}; a brace list is for .tar shards", field="DATA")
    return shards
