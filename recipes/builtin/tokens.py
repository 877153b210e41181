"""The builtin encoder's tokenizer: byte-pair merges learned from its own texts.

Lower-cased and NFKC-normalised; one [CLS] in front; an unknown character becomes [UNK]. In training
half of the texts leave merges out at random, so that a word is also learned from its pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from recipes.builtin.towers import PAD_ID, TextTower

TRAINED_LENGTH = 20  # tokens; captions are rarely longer
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]"]
_CHUNKS = 5  # parts of a batch, by length: little padding without many small forward passes


def train_tokenizer(texts: Iterable[str], vocabulary: int = 8192) -> Any:
    """Return a tokenizer learned from `texts`."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=_SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", _SPECIAL.index("[CLS]"))]
    )
    return tokenizer


class TextReader:
    """Embeds lists of texts with a tower, exactly or with merges left out at random."""

    def __init__(self, file: Path, dropout: float = 0.1) -> None:
        self.exact = Tokenizer.from_file(str(file))
        self.loose = Tokenizer.from_file(str(file))
        self.loose.model.dropout = dropout
        for tokenizer in (self.exact, self.loose):
            tokenizer.enable_truncation(TRAINED_LENGTH)

    @property
    def vocabulary(self) -> int:
        """The number of tokens."""
        return int(self.exact.get_vocab_size())

    def tokenize(self, texts: Sequence[str], *, loosely: bool = False) -> list[list[int]]:
        """Return the token ids of each text, unpadded."""
        tokenizer = self.loose if loosely else self.exact
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def embed_tokens(tower: TextTower, ids: Sequence[Sequence[int]]) -> Tensor:
    """Return rows (n, dim) in the order of `ids`; texts of similar length share a forward pass."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    size = -(-len(order) // _CHUNKS)
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    rows = torch.cat([tower(_pad([ids[i] for i in chunk])) for chunk in chunks])
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return rows[back]


def _pad(ids: Sequence[Sequence[int]]) -> Tensor:
    longest = max(len(row) for row in ids)
    return torch.tensor([[*row, *[PAD_ID] * (longest - len(row))] for row in ids])
