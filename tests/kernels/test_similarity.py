"""Probabilities and the top k: Triton and blocked torch against the specification in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from twinlens.errors import InputError
from twinlens.kernels import reference, similarity
from twinlens.kernels.gpu import inference

HALVES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _inputs(n: int, m: int, d: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    x, y = torch.randn(n, d), torch.randn(m, d)
    return [x.to(device, dtype), y.to(device, dtype), torch.tensor(50.0, device=device)]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("n", "m", "d"), [(20, 203, 70), (1, 1, 3)])
def test_the_fused_softmax_is_exact(
    n: int, m: int, d: int, dtype: torch.dtype, device: torch.device, poisoned: None
) -> None:
    x, y, scale = _inputs(n, m, d, dtype, device)
    want = reference.similarity_softmax(x.double(), y.double(), scale.double())
    got = inference.similarity(x, y, scale, None)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=2e-6)


def test_the_fused_sigmoid_is_exact(device: torch.device, poisoned: None) -> None:
    x, y, scale = _inputs(20, 203, 70, torch.float32, device)
    bias = torch.tensor(-7.0, device=device)
    want = reference.similarity_sigmoid(x.double(), y.double(), scale.double(), bias.double())
    got = inference.similarity(x, y, scale, bias)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=2e-6)


def test_a_zero_embedding_finds_all_classes_alike(device: torch.device) -> None:
    x, y, scale = _inputs(2, 10, 8, torch.float32, device)
    x[1] = 0.0
    got = inference.similarity(x, y, scale, None)
    torch.testing.assert_close(got[1], torch.full_like(got[1], 0.1))


@pytest.mark.parametrize("path", ["triton", "blocked"])
@pytest.mark.parametrize(("n", "m", "k"), [(9, 700, 8), (3, 40, 40), (1, 129, 1)])
def test_the_two_phase_top_k_is_exact(
    path: str, n: int, m: int, k: int, device: torch.device, poisoned: None
) -> None:
    x, y, scale = _inputs(n, m, 70, torch.float32, device)
    y[m // 2] = y[3]  # of equal classes the first must win
    y[m - 1] = y[m // 3]
    p, index = reference.similarity_topk(x.double(), y.double(), scale.double(), k)
    find = inference.topk if path == "triton" else similarity.blocked_topk
    got_p, got_index = find(x, y, scale, k)
    assert torch.equal(got_index, index)
    torch.testing.assert_close(got_p.double(), p, rtol=2e-5, atol=1e-7)


def test_blocks_do_not_show_in_the_top_k(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "BLOCK", 256)
    inputs = _inputs(6, 1000, 16, torch.float64, torch.device("cpu"))
    inputs[1][900] = inputs[1][100]
    p, index = reference.similarity_topk(inputs[0], inputs[1], inputs[2], 5)
    x, y, scale = inputs
    got_p, got_index = similarity.similarity_topk(x, y, scale, 5)
    assert torch.equal(got_index, index)
    torch.testing.assert_close(got_p, p, rtol=1e-6, atol=1e-12)


def test_k_beyond_the_classes_is_refused() -> None:
    x, y, scale = _inputs(2, 5, 4, torch.float32, torch.device("cpu"))
    with pytest.raises(InputError, match="k is 6"):
        similarity.similarity_topk(x, y, scale, 6)


def test_gradients_pass_through_the_probabilities() -> None:
    x, y = (torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (3, 5))
    scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (3.0, -1.0))
    assert torch.autograd.gradcheck(similarity.similarity_softmax, (x, y, scale))
    assert torch.autograd.gradcheck(similarity.similarity_sigmoid, (x, y, scale, bias))
