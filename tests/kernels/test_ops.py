"""The operators keep torch's contract: fakes tell the truth, and one graph compiles whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from twinlens.errors import InputError
from twinlens.kernels import loss, ops, similarity


def _given(*shapes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def _operators() -> dict[str, tuple[Any, Callable[[], tuple[Any, ...]]]]:
    def sides() -> list[Tensor]:
        return [*_given((6, 5), (9, 5)), torch.tensor(7.0, requires_grad=True)]

    labels = (torch.arange(6) % 3, torch.arange(9) % 3)
    masks = (0, False, 0)
    bias = torch.tensor(-2.0, requires_grad=True)
    return {
        "softmax": (
            ops.softmax_contrast,
            lambda: (*sides(), *labels, *masks, True, "auto", "flat", True),
        ),
        "diagonal": (
            ops.softmax_contrast,
            lambda: (*sides(), None, None, *masks, False, "auto", "balanced", True),
        ),
        "kept": (
            ops.softmax_contrast,
            lambda: (*sides(), None, None, *masks, True, "auto", "stored", True),
        ),
        "sigmoid": (
            ops.sigmoid_contrast,
            lambda: (*sides(), bias, None, None, *masks, False, "auto", "flat", True, True),
        ),
        "weighed": (
            ops.sigmoid_contrast,
            lambda: (*sides(), bias, *labels, *masks, True, "auto", "flat", True, True),
        ),
        "probabilities": (torch.ops.twinlens.similarity_softmax.default, lambda: tuple(sides())),
        "independent": (
            torch.ops.twinlens.similarity_sigmoid.default,
            lambda: (*sides(), bias),
        ),
        "topk": (
            torch.ops.twinlens.similarity_topk.default,
            lambda: (*(t.detach() for t in sides()), 3),
        ),
    }


# The check itself reads .grad of tensors that are not leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize("name", _operators())
def test_the_operator_passes_torchs_own_check(name: str) -> None:
    operator, arguments = _operators()[name]
    torch.library.opcheck(operator, arguments())


def test_a_loss_compiles_into_one_graph() -> None:
    x, y, scale = [*_given((12, 8), (12, 8)), torch.tensor(9.0, requires_grad=True)]

    def step(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return loss.clip_loss(x * 2.0, y, scale.exp().log()) + 1.0

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    want = torch.autograd.grad(step(x, y, scale), (x, y, scale))
    got = torch.autograd.grad(compiled(x, y, scale), (x, y, scale))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_inference_compiles_into_one_graph() -> None:
    x, y, scale = [*_given((4, 8), (30, 8)), torch.tensor(9.0)]
    compiled = torch.compile(similarity.similarity_topk, fullgraph=True, backend="aot_eager")
    for a, b in zip(
        compiled(x, y, scale, 3), similarity.similarity_topk(x, y, scale, 3), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    x, y = _given((4, 3), (4, 3))
    with pytest.raises(InputError, match="auto, chunked, triton"):
        loss.contrastive_loss(x, y, 1.0, engine="cuda")
