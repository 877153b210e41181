"""The text transformer ignores padding."""

from __future__ import annotations

import torch

from twinlens.training.encoders.text import TextTransformer


def test_padding_after_a_text_changes_nothing() -> None:
    torch.manual_seed(0)
    tower = TextTransformer(30, 12, 16, 2, 2, pad_id=0).eval()
    short = torch.tensor([[2, 5, 9]])
    padded = torch.tensor([[2, 5, 9, 0, 0, 0, 0]])
    with torch.no_grad():
        torch.testing.assert_close(tower(short), tower(padded), atol=1e-6, rtol=0)
