"""Embeddings to bytes: truncated, quantised, as JSON, raw or .npy. Hot path: no pydantic."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from twinlens.bundle.arrays import Row, Rows
from twinlens.bundle.dimensions import check_dimensions, shorten
from twinlens.bundle.manifest import Manifest
from twinlens.errors import InputError
from twinlens.serving.contracts import Answers
from twinlens.serving.requests.error_responses import describe

OUTPUTS = ("float32", "int8", "ubinary")
JSON = "application/json"
RAW = "application/octet-stream"
NPY = "application/x-npy"


@dataclass(frozen=True)
class RowFormat:
    """The requested form of a row: its length and its number type."""

    dimensions: int | None = None
    output: str = "float32"

    def check(self, manifest: Manifest) -> None:
        """Refuse a length that the bundle does not offer, and bits that do not fill bytes."""
        if self.dimensions is not None:
            check_dimensions(manifest, self.dimensions)
        length = self.dimensions or manifest.embedding_dim
        if self.output in ("ubinary", "binary") and length % 8:
            raise InputError(
                f"output {self.output!r} needs dimensions that are a multiple of 8, not {length}",
                field="output",
            )


def choose_media(accept: str) -> str:
    """Return the media type to answer with; JSON unless a binary type is named."""
    if "application/octet-stream" in accept:
        return RAW
    if "npy" in accept:
        return NPY
    return JSON


def stack(answers: Answers, dim: int) -> Rows:
    """Return (n, d) with rows of NaN where an item failed."""
    if len(answers) == 1 and not isinstance(answers[0], Exception):
        return answers[0][None]
    blank: Row | None = None
    rows: list[Row] = []
    for answer in answers:
        if isinstance(answer, Exception):
            if blank is None:
                blank = np.full(dim, np.nan, dtype=np.float32)
            rows.append(blank)
        else:
            rows.append(answer)
    return np.stack(rows)


def shape_rows(rows: Rows, shape: RowFormat) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Return the rows in the requested form, and for int8 the scale of each row."""
    if shape.dimensions is not None:
        rows = shorten(rows, shape.dimensions)
    if shape.output == "int8":
        return quantise(rows)
    if shape.output == "uint8":
        quantised, scales = quantise(rows)
        return (quantised.astype(np.int16) + 128).astype(np.uint8), scales
    if shape.output in ("ubinary", "binary"):
        bits = np.packbits(rows >= 0, axis=1)
        return (
            bits if shape.output == "ubinary" else (bits.astype(np.int16) - 128).astype("i1")
        ), None
    return np.ascontiguousarray(rows, dtype="<f4"), None


def quantise(rows: Rows) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 rows and their scales: row = int8 x scale.

    Each row uses its own full range; cosines do not depend on the scale, so a client may ignore it.
    """
    with np.errstate(invalid="ignore"):
        scales = np.abs(rows).max(axis=1, keepdims=True) / 127.0
        quantised = np.nan_to_num(np.rint(rows / np.maximum(scales, 1e-12)))
    return quantised.astype(np.int8), scales[:, 0].astype(np.float32)


def pack_json(answers: Answers, shape: RowFormat, dim: int, extra: dict[str, Any]) -> bytes:
    """Return {"embeddings": [...]} with an error object in the place of an item that failed."""
    rows, scales = shape_rows(stack(answers, dim), shape)
    has_failed = any(isinstance(answer, Exception) for answer in answers)
    body: dict[str, Any] = {"embeddings": rows if not has_failed else _mixed(answers, rows)}
    if scales is not None:
        body["scales"] = np.nan_to_num(scales)
    return dump({**body, **extra})


def pack_bytes(
    answers: Answers, shape: RowFormat, dim: int, media: str
) -> tuple[bytes, dict[str, str]]:
    """Return the rows as raw little-endian bytes or as a .npy file, and headers about them.

    The headers give the shape and the failed rows, which are NaN, or zeros for integer types.
    """
    rows, scales = shape_rows(stack(answers, dim), shape)
    failed = [str(i) for i, answer in enumerate(answers) if isinstance(answer, Exception)]
    headers = {"Twinlens-Shape": ",".join(map(str, rows.shape)), "Twinlens-Output": shape.output}
    if failed:
        headers["Twinlens-Failed-Indices"] = ",".join(failed)
    if scales is not None:
        packed = base64.b64encode(scales.astype("<f4").tobytes()).decode()
        headers["Twinlens-Scales"] = packed
    if media == RAW:
        return rows.tobytes(), headers
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=False)
    return file.getvalue(), headers


def dump(body: Any) -> bytes:
    """Return JSON; arrays are serialised directly."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def answer_json(body: Any, status: int = 200) -> Response:
    """Return a small JSON answer that no model made."""
    return Response(dump(body), status, media_type=JSON)


def to_base64(row: NDArray[Any]) -> str:
    """Return a row in base64 as clients of OpenAI's API read it: little-endian float32."""
    return base64.b64encode(row.tobytes()).decode()


def _mixed(answers: Answers, rows: NDArray[Any]) -> list[Any]:
    return [
        {"error": describe(answer, where=f"inputs[{i}]")}
        if isinstance(answer, Exception)
        else rows[i]
        for i, answer in enumerate(answers)
    ]
