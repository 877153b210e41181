"""Texts to tokens: a small vocabulary learned from the captions, CLIP's, or a tokenizer.json.

Whatever it is, the run keeps the file, and the export ships that very file: training and serving
read texts alike because they read them with the same code.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.manifest import TextSpec
from twinlens.errors import NotFoundError
from twinlens.training.config import Settings

PAD, UNKNOWN, CLASS = "[PAD]", "[UNK]", "[CLS]"
CLIP_VOCABULARY = 49408
TOKENIZER = "tokenizer.json"


def text_spec(settings_tokenizer: str, context: int, file: str) -> TextSpec:
    """Return how the run's texts are read."""
    kind = "clip" if settings_tokenizer == "clip" else "huggingface"
    return TextSpec(
        file="",
        tokenizer=file,
        tokenizer_kind=kind,  # type: ignore[arg-type]
        context_length=context,
        pad_id=0,
        cut_to_longest=True,
    )


def provide_tokenizer(choice: str, captions: Iterable[str], size: int, path: Path) -> None:
    """Put the tokenizer file of a run at `path`, unless a resumed run has it already."""
    if path.is_file() or choice == "clip":
        return
    if choice == "captions":
        learn_tokenizer(captions, size, path)
    elif Path(choice).is_file():
        shutil.copyfile(choice, path)
    else:
        raise NotFoundError(
            f"tokenizer {choice!r}: no such file; give captions, clip, or a tokenizer.json"
        )


def learn_tokenizer(captions: Iterable[str], size: int, path: Path) -> None:
    """Learn byte-pair merges from the captions and write a tokenizer.json."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [PAD, UNKNOWN, CLASS]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLASS} $A", special_tokens=[(CLASS, special.index(CLASS))]
    )
    tokenizer.save(str(path))


class RunTokenizer:
    """The tokenizer of a run, as the bundle reads it."""

    def __init__(self, spec: TextSpec, folder: Path) -> None:
        from twinlens.bundle.tokenizer import open_tokenizer

        self.spec = spec
        self._tokenizer = open_tokenizer(spec, folder)
        self.size = CLIP_VOCABULARY if spec.tokenizer_kind == "clip" else _size(folder, spec)

    def batch(self, texts: list[str]) -> NDArray[np.int64]:
        """Return tokens (n, length), padded to the longest text."""
        tokens: NDArray[np.int64] = self._tokenizer.batch(texts, cut=True)
        return tokens


def open_run_tokenizer(settings: Settings, folder: Path) -> RunTokenizer:
    """Return the tokenizer of the run in `folder`."""
    return RunTokenizer(text_spec(settings.tokenizer, settings.context, TOKENIZER), folder)


def _size(folder: Path, spec: TextSpec) -> int:
    from tokenizers import Tokenizer

    size: int = Tokenizer.from_file(str(folder / spec.tokenizer)).get_vocab_size()
    return size
