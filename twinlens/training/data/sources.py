"""Open any data by its path; the only place that knows which kind is which."""

from __future__ import annotations

import glob
from pathlib import Path

from twinlens.errors import InputError, NotFoundError
from twinlens.training.data.braces import expand_braces
from twinlens.training.data.folder import FolderSource
from twinlens.training.data.records import DataSource
from twinlens.training.data.table import TableSource
from twinlens.training.data.tars import TarSource
from twinlens.training.data.zipped import ZipSource

KINDS = (
    "an image folder, a .zip, .tar shards (a glob or {000..099} works), a .csv, .tsv or .parquet"
)


def open_source(where: str | Path) -> DataSource:
    """Return the source at a path or a glob of tars."""
    source = _open(str(where))
    if not source.records:
        raise InputError(f"{where} holds no images; expected {KINDS}")
    return source


def _open(where: str) -> DataSource:
    path = Path(where)
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        return TarSource(shards) if shards else FolderSource(path)
    if "{" in where and not path.exists():
        return TarSource(_list_shards(where))
    shards = sorted(Path(name) for name in glob.glob(where))  # noqa: PTH207 - absolute globs too
    if not shards:
        raise NotFoundError(f"{where} does not exist; data is {KINDS}")
    if shards[0].suffix == ".tar":
        return TarSource(shards)
    if path.suffix == ".zip":
        return ZipSource(path)
    if path.suffix in (".csv", ".tsv", ".parquet"):
        return TableSource(path)
    raise InputError(f"{where} is no data that can be read; expected {KINDS}")


def _list_shards(where: str) -> list[Path]:
    """Return the tars of a brace list; each must be there."""
    shards = [Path(name) for name in expand_braces(where)]
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        raise NotFoundError(
            f"{where}: {len(missing)} of its {len(shards)} files do not exist, the first is"
            f" {missing[0]}",
            field="DATA",
        )
    other = next((shard for shard in shards if shard.suffix.lower() != ".tar"), None)
    if other is not None:
        raise InputError(f"{where} names {other}; a brace list is for .tar shards", field="DATA")
    return shards
