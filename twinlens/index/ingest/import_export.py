"""Export to plain files and import from them: numbered .npy embeddings and metadata tables.

The layout is that of common embedding tools: `img_emb/img_emb_0.npy` (n, d) and
`metadata/metadata_0.parquet` (or .jsonl), joined by row; a metadata row here carries its id.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from twinlens.errors import InputError
from twinlens.index.collection import Collection
from twinlens.index.ingest.remote_files import download_folder, is_remote, upload_folder
from twinlens.index.ingest.tables import read_lines, read_parquet
from twinlens.index.storage.records import Item
from twinlens.index.writer import Writer

ID_COLUMNS = ("id", "image_path", "path", "key", "url")
IMAGES = "img_emb"
IMPORT_ROWS = 50_000
_NUMBER = re.compile(r"(\d+)$")


def export_to(collection: Collection, out: str, part: int) -> int:
    """Write all items into a folder, or below an address of object storage; return how many."""
    if not is_remote(out):
        return export_parts(collection, Path(out), part)
    with tempfile.TemporaryDirectory() as place:
        count = export_parts(collection, Path(place), part)
        upload_folder(Path(place), out)
    return count


def import_from(writer: Writer, source: str, id_column: str | None = None) -> int:
    """Upsert the parts in a folder, or below an address of object storage; return how many rows."""
    if not is_remote(source):
        return import_parts(writer, Path(source), id_column)
    with tempfile.TemporaryDirectory() as place:
        download_folder(source, Path(place))
        return import_parts(writer, Path(place), id_column)


def export_parts(collection: Collection, folder: Path, part: int = 100_000) -> int:
    """Write all items, `part` rows per file; return how many."""
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; export into a new folder", field="out")
    (folder / IMAGES).mkdir(parents=True)
    (folder / "metadata").mkdir()
    count = 0
    for number, (items, rows) in enumerate(_parts(collection, part)):
        np.save(folder / IMAGES / f"{IMAGES}_{number}.npy", rows, allow_pickle=False)
        _write_table(folder / "metadata", f"metadata_{number}", items)
        count += len(items)
    return count


def import_parts(writer: Writer, folder: Path, id_column: str | None = None) -> int:
    """Upsert the rows of every part; return how many."""
    count = 0
    for embeddings, table in _pairs(folder):
        rows = np.load(embeddings, mmap_mode="r", allow_pickle=False)
        metadata = _read_rows(table) if table else [{} for _ in range(len(rows))]
        if len(rows) != len(metadata):
            raise InputError(f"{embeddings} has {len(rows)} rows but {table} {len(metadata)}")
        ids = _ids(embeddings, metadata, id_column)
        for start in range(0, len(rows), IMPORT_ROWS):
            piece = slice(start, start + IMPORT_ROWS)
            count += writer.upsert(ids[piece], np.asarray(rows[piece]), metadata[piece])
    return count


def _parts(
    collection: Collection, size: int
) -> Iterator[tuple[list[Item], npt.NDArray[np.float16]]]:
    """Yield items with their embeddings, all from one snapshot."""
    snapshot = collection.snapshot()
    batch: list[Item] = []
    rows: list[npt.NDArray[np.float16]] = []
    for rids, live in snapshot.select(None):
        chosen = rids[live]
        for start in range(0, len(chosen), 1000):
            items = collection.catalog.by_rid(chosen[start : start + 1000].tolist())
            for rid in sorted(items):
                row = snapshot.embedding(rid)
                if row is not None:
                    batch.append(items[rid])
                    rows.append(row.astype(np.float16))
                if len(batch) == size:
                    yield batch, np.stack(rows)
                    batch, rows = [], []
    if batch:
        yield batch, np.stack(rows)


def _pairs(folder: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield each .npy with the table of the same number.

    If there is a folder of image embeddings, a folder of text embeddings beside it is ignored.
    """
    images = folder / IMAGES
    arrays = sorted((images if images.is_dir() else folder).rglob("*.npy"), key=_number)
    if not arrays:
        raise InputError(f"{folder} holds no .npy file")
    tables = {
        _number(path): path
        for suffix in ("jsonl", "parquet")
        for path in folder.rglob(f"*.{suffix}")
    }
    for path in arrays:
        yield path, tables.get(_number(path))


def _number(path: Path) -> int:
    found = _NUMBER.search(path.stem)
    return int(found[1]) if found else 0


def _ids(embeddings: Path, metadata: list[dict[str, Any]], id_column: str | None) -> list[str]:
    columns = metadata[0].keys() if metadata else ()
    if id_column is not None and id_column not in columns:
        raise InputError(f"{embeddings}: no column {id_column!r}; there are {list(columns)}")
    column = id_column or next((name for name in ID_COLUMNS if name in columns), None)
    if column is None:
        return [f"{embeddings.stem}/{row}" for row in range(len(metadata))]
    return [str(row[column]) for row in metadata]


def _write_table(folder: Path, name: str, items: list[Item]) -> None:
    """Write id and metadata as Parquet, or as JSONL where pyarrow is not installed."""
    rows = [{**item.metadata, "id": item.id} for item in items]
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        lines = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        (folder / f"{name}.jsonl").write_bytes(lines)
        return
    try:
        table = pyarrow.Table.from_pylist(rows, schema=_schema(pyarrow, rows))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        # Fields of mixed types have no column type: write JSONL instead.
        lines = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        (folder / f"{name}.jsonl").write_bytes(lines)
        return
    pyarrow.parquet.write_table(table, folder / f"{name}.parquet")


def _schema(pyarrow: Any, rows: list[dict[str, Any]]) -> Any:
    """Return a schema with the fields of all rows; from_pylist reads only the first row."""
    fields = dict.fromkeys(key for row in rows for key in row)
    return pyarrow.schema(
        [(name, pyarrow.infer_type([row.get(name) for row in rows])) for name in fields]
    )


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return read_lines(path)
    # A table has every column in every row: nulls are missing fields.
    return [{k: v for k, v in row.items() if v is not None} for row in read_parquet(path)]
