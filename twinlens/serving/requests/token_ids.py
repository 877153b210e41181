"""Texts sent as token ids of OpenAI's encoding, as LangChain does by default.

Ids belong to a vocabulary, so they are turned back into text. The vocabulary is read from where
tiktoken keeps it. What must stay true: nothing is fetched, and a file with other content than
OpenAI published is not read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from twinlens.errors import InputError

_URL = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
_ADVICE = (
    "holds token ids, and their vocabulary is not on this machine; send strings (LangChain: "
    "check_embedding_ctx_length=False), or have tiktoken store it where the server runs: "
    "python -c \"import tiktoken; tiktoken.get_encoding('cl100k_base')\""
)


def is_ids(value: object) -> bool:
    """Return whether a value is one list of token ids."""
    return isinstance(value, list) and bool(value) and _is_number(value[0])


def decode_ids(ids: Any, where: str) -> str:
    """Return the text of token ids."""
    if not isinstance(ids, list) or not ids or not all(map(_is_id, ids)):
        raise InputError(f"{where} must be a list of token ids", field=where)
    path = find_vocabulary()
    vocabulary = read_vocabulary(path) if path.is_file() else ()
    if not vocabulary:
        raise InputError(f"{where} {_ADVICE}", field=where, code="token_ids")
    largest = max(ids)
    if largest >= len(vocabulary):
        raise InputError(
            f"{where} holds token id {largest}; cl100k_base ends at {len(vocabulary) - 1}",
            field=where,
            code="token_ids",
        )
    return b"".join(vocabulary[int(one)] for one in ids).decode(errors="replace")


def find_vocabulary() -> Path:
    """Return where tiktoken would keep the file, by the variables that it reads itself."""
    named = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / "data-gym-cache"
    return folder / hashlib.sha1(_URL.encode(), usedforsecurity=False).hexdigest()


@lru_cache(maxsize=2)
def read_vocabulary(path: Path) -> Sequence[bytes]:
    """Return the bytes of each id; none where the file holds something else."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        return ()
    pairs = (line.split() for line in content.splitlines() if line)
    ranked = sorted((int(rank), base64.b64decode(token)) for token, rank in pairs)
    return [token for _, token in ranked]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_id(value: Any) -> bool:
    return _is_number(value) and value >= 0 and float(value).is_integer()
