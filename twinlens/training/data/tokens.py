"""Texts to tokens: a small vocabulary learned from the captions, CLIP's, or a tokenizer.json.

The run keeps the tokenizer's file and the export ships it unchanged. What must stay true: training
and serving tokenize texts identically, with the same code and file.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.manifest import TextSpec
from twinlens.bundle.text.clip_vocabulary import write_merges
from twinlens.bundle.text.tokenizer import open_tokenizer
from twinlens.errors import MissingDependencyError, NotFoundError
from twinlens.training.config import TrainingSettings

PAD, UNKNOWN, CLASS = "[PAD]", "[UNK]", "[CLS]"
LEARNED, CLIP = "tokenizer.json", "tokenizer.clip.gz"  # file name in the run, by kind
OWN_TEXT = "transformer"
PADDED = "attention looks both ways, so padding takes part in every embedding"
CLIP_SIZE = 49408  # its ids; padding is the next id, since id 0 is a word


def text_spec(settings: TrainingSettings, *, cuts: bool = True) -> TextSpec:
    """Return the text spec of the run; the export sets its file.

    `cuts` tells whether the text tower accepts batches cut to their longest text.
    """
    is_clip = settings.tokenizer == "clip"
    is_own = settings.text_encoder == OWN_TEXT  # the padding id that the tower can tell apart
    usual = CLIP_SIZE if is_clip and is_own else 0
    return TextSpec(
        file="",
        tokenizer=CLIP if is_clip else LEARNED,
        tokenizer_kind="clip" if is_clip else "huggingface",
        context_length=settings.context,
        pad_id=usual if settings.pad_id < 0 else settings.pad_id,
        cut_to_longest=cuts,
        padding_reason="" if cuts else PADDED,
    )


def check_tokenizer(settings: TrainingSettings, folder: Path) -> None:
    """Refuse a tokenizer that is neither a known name nor a file, unless the run has its own."""
    choice, own = settings.tokenizer, folder / text_spec(settings).tokenizer
    if choice not in ("captions", "clip") and not Path(choice).is_file() and not own.is_file():
        raise NotFoundError(
            f"tokenizer {choice!r}: no such file; give captions, clip, or a tokenizer.json",
            field="tokenizer",
        )


def provide_tokenizer(settings: TrainingSettings, captions: Iterable[str], folder: Path) -> None:
    """Write the tokenizer file to the run's folder, unless a resumed run already has it."""
    path, choice = folder / text_spec(settings).tokenizer, settings.tokenizer
    if path.is_file():
        return
    if choice == "captions":
        learn_tokenizer(captions, settings.vocabulary, path)
    elif choice == "clip":
        write_merges(path, read_clip_merges())
    else:
        check_tokenizer(settings, folder)
        shutil.copyfile(choice, path)


def read_clip_merges() -> list[tuple[str, str]]:
    """Return the merges of CLIP's vocabulary, which ship with open_clip."""
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError:
        raise MissingDependencyError(
            "tokenizer=clip needs the vocabulary of open_clip; pip install open_clip_torch"
        ) from None
    ranks: dict[tuple[str, str], int] = SimpleTokenizer().bpe_ranks
    return sorted(ranks, key=lambda merge: ranks[merge])


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
    """The tokenizer of a run, with the bundle's reader."""

    def __init__(self, settings: TrainingSettings, folder: Path) -> None:
        self.spec = text_spec(settings)
        self._tokenizer = open_tokenizer(self.spec, folder)
        is_clip = self.spec.tokenizer_kind == "clip"
        self.size = CLIP_SIZE + 1 if is_clip else _count_ids(folder / self.spec.tokenizer)
        self.cuts = True

    def batch(self, texts: list[str]) -> NDArray[np.int64]:
        """Return tokens (n, length), padded to the longest text, or to the context."""
        return self._tokenizer.batch(texts, cut=self.cuts)


def _count_ids(path: Path) -> int:
    from tokenizers import Tokenizer

    count: int = Tokenizer.from_file(str(path)).get_vocab_size()
    return count
