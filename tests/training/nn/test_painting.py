"""Decoders reach the side they are asked for, from any map, and rows do not see each other."""

from __future__ import annotations

import pytest
import torch

from twinlens.training.nn.painting import CodePainter, Painter


@pytest.mark.parametrize("start", [1, 2, 7, 8, 14])
def test_a_painter_reaches_its_side_from_any_map(start: int) -> None:
    painter = Painter(6, 8, 3, 8, 5)
    assert painter(torch.randn(2, 6, start, start)).shape == (2, 5, 8, 8)


def test_a_code_becomes_a_picture_that_depends_on_itself_alone() -> None:
    torch.manual_seed(0)
    painter = CodePainter(6, 8, 2, 16)
    codes = torch.randn(3, 6)
    together = painter(codes)
    assert together.shape == (3, 3, 16, 16)
    alone = torch.cat([painter(code[None]) for code in codes])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)
