"""Which tokenizer a text tower was trained with, and where its file comes from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from twinlens.bundle.manifest import TextSpec
from twinlens.bundle.text.clip_vocabulary import write_merges
from twinlens.errors import InputError
from twinlens.training.export.description import TEXT_FILE
from twinlens.training.export.hub import fetch

TokenizerWriter = Callable[[Path], None]

CLIP_FILE: Final = "merges.txt.gz"
HUGGINGFACE_FILE: Final = "tokenizer.json"
_PADDING_TOKENS: Final = ("<pad>", "[PAD]", "</s>")


def choose_tokenizer(
    config: Mapping[str, Any], context: int, file: Path | None, model: str
) -> tuple[TextSpec, TokenizerWriter]:
    """Return the text spec of an open_clip `config`, and what writes its tokenizer file."""
    name = config.get("hf_tokenizer_name")
    if not name and file is None:
        spec = TextSpec(TEXT_FILE, CLIP_FILE, "clip", context)
        return spec, write_clip_merges
    path = file or _fetch_tokenizer(str(name), model)
    if not path.is_file():
        raise InputError(f"--tokenizer {str(path)!r} is not a file", field="tokenizer")
    options = config.get("tokenizer_kwargs") or {}
    if options.get("strip_sep_token"):
        raise InputError(
            f"{model} drops its separator tokens after tokenizing, which a tokenizer.json cannot "
            "express; this architecture cannot be exported"
        )
    spec = TextSpec(
        TEXT_FILE,
        HUGGINGFACE_FILE,
        "huggingface",
        context,
        pad_id=find_pad_id(path, model),
        clean=options.get("clean", "whitespace"),
    )
    return spec, lambda target: copy_file(path, target)


def write_clip_merges(target: Path) -> None:
    """Write open_clip's byte-pair merges in the bundle's own format."""
    from open_clip.tokenizer import SimpleTokenizer

    write_merges(target, SimpleTokenizer().bpe_ranks)


def copy_file(source: Path, target: Path) -> None:
    """Copy a tokenizer's file into the bundle."""
    shutil.copyfile(source, target)


def find_pad_id(path: Path, model: str) -> int:
    """Return the padding id: from the file, from the config beside it, or by the usual names."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    named = [_read_neighbour(path.with_name("tokenizer_config.json"))]
    # The first SigLIP pads with its end of text, though its vocabulary has a padding token.
    if "siglip" in model.lower() and "siglip2" not in model.lower():
        named.append("</s>")
    for token in (*named, *_PADDING_TOKENS):
        found = tokenizer.token_to_id(token) if token else None
        if found is not None:
            return int(found)
    raise InputError(
        f"{path} names no padding token; add a `padding` section to it or put its "
        "tokenizer_config.json beside it",
        field="tokenizer",
    )


def _read_neighbour(path: Path) -> str | None:
    """Return the padding token that a tokenizer_config.json names, if any."""
    if not path.is_file():
        return None
    token = json.loads(path.read_text(encoding="utf-8")).get("pad_token")
    return token.get("content") if isinstance(token, dict) else token


def _fetch_tokenizer(name: str, model: str) -> Path:
    """Return the tokenizer.json of `name` on the hub, with its configuration beside it."""
    from huggingface_hub import hf_hub_download

    def download() -> Path:
        path = Path(hf_hub_download(name, HUGGINGFACE_FILE))
        hf_hub_download(name, "tokenizer_config.json")
        return path

    return fetch(
        f"the tokenizer {name!r} of {model}",
        "download its tokenizer.json and give it with --tokenizer FILE",
        download,
    )
