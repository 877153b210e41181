"""A replayed step is the step that would have been taken; what cannot be recorded is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.family import small_batch, small_config, small_network, with_settings
from twinlens.errors import InputError
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.loop.capture import WARMUP, CapturedDifferentiator
from twinlens.training.loop.gradients import BackwardResult, Differentiator
from twinlens.training.loop.loop import train
from twinlens.training.objective import LossInputs
from twinlens.training.ranges import check_config
from twinlens.training.runs.state import State
from twinlens.training.schedules import TrainingProgress

SIZE = 8


class ShadowRecorder:
    """Records as a GPU does, on a CPU: results and gradients stay where the recording put them."""

    def __init__(self) -> None:
        self.replays = 0
        self._passes: Callable[[], BackwardResult] | None = None
        self._result: BackwardResult | None = None
        self._slots: dict[torch.nn.Parameter, torch.Tensor] = {}

    def beside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def watch(self, net: torch.nn.Module) -> ShadowRecorder:
        self._net = net
        return self

    def record(self, passes: Callable[[], BackwardResult]) -> BackwardResult:
        with torch.no_grad():
            kept = {name: buffer.clone() for name, buffer in self._net.named_buffers()}
        self._result, self._passes = passes(), passes
        self._slots = {own: own.grad for own in self._net.parameters() if own.grad is not None}
        with torch.no_grad():
            for name, buffer in self._net.named_buffers():
                buffer.copy_(kept[name])  # a recording runs nothing
            for slot in self._slots.values():
                slot.fill_(float("nan"))
        return self._result

    def replay(self) -> None:
        assert self._passes is not None and self._result is not None
        self.replays += 1
        for own in self._slots:
            own.grad = None
        fresh = self._passes()
        with torch.no_grad():
            for name, value in self._result.terms.items():
                value.copy_(fresh.terms[name])
            self._result.representation.copy_(fresh.representation)
            for own, slot in self._slots.items():
                assert own.grad is not None
                slot.copy_(own.grad)
                own.grad = None


def differentiators(
    method: str, probe: Callable[[LossInputs], None] | None = None
) -> tuple[Differentiator, CapturedDifferentiator, ShadowRecorder]:
    found = []
    for _ in range(2):
        config = small_config(method)
        net = small_network(config)
        state = State(config.objective.state(), net, 0)
        found.append(Differentiator(config.objective, net, net, state, Ranks(), loss_probe=probe))
    recorder = ShadowRecorder().watch(found[1].net)
    return found[0], CapturedDifferentiator(found[1], recorder), recorder


@pytest.mark.parametrize("method", ["simclr", "moco", "supcon", "mae"])
def test_a_replay_is_the_step_that_would_have_been_taken(method: str) -> None:
    plain, captured, recorder = differentiators(method)
    config = small_config(method)
    for step in range(WARMUP + 3):
        batch = small_batch(config, SIZE, torch.float32, seed=step)
        progress = TrainingProgress(step, 20)
        results = []
        for way, net in ((plain, plain.net), (captured, captured.plain.net)):
            net.zero_grad(set_to_none=True)
            torch.manual_seed(step)
            results.append(way.backward(batch, progress))
        torch.testing.assert_close(results[0].terms, results[1].terms)
        pairs = zip(plain.net.parameters(), captured.plain.net.parameters(), strict=True)
        for one, other in pairs:
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None:
                torch.testing.assert_close(one.grad, other.grad)
    assert recorder.replays == 3


def test_a_batch_of_another_shape_takes_its_step_as_usual() -> None:
    _, captured, recorder = differentiators("simclr")
    config = small_config("simclr")
    for step, size in enumerate([SIZE] * (WARMUP + 1) + [SIZE // 2, SIZE]):
        captured.plain.net.zero_grad(set_to_none=True)
        batch = small_batch(config, size, torch.float32, seed=step)
        result = captured.backward(batch, TrainingProgress(step, 20))
        assert len(result.representation) == size
    assert recorder.replays == 2


def test_the_doctor_sees_each_replayed_loss() -> None:
    seen: list[int] = []
    _, captured, _ = differentiators("simclr", lambda inputs: seen.append(inputs.progress.step))
    config = small_config("simclr")
    with pytest.raises(InputError):  # it reads the progress, and a warm-up has none
        captured.backward(small_batch(config, SIZE, torch.float32), TrainingProgress(0, 20))
    captured._steps = WARMUP
    for step in (7, 8):
        captured.backward(small_batch(config, SIZE, torch.float32), TrainingProgress(step, 20))
    assert seen == [7, 8]


@pytest.mark.parametrize("method", ["dino", "swav", "lejepa"])
def test_a_loss_that_changes_over_the_run_is_refused(method: str) -> None:
    _, captured, _ = differentiators(method)
    batch = small_batch(small_config(method), SIZE, torch.float32)
    with pytest.raises(InputError, match="--set capture=false"):
        captured.backward(batch, TrainingProgress(0, 20))


def test_what_cannot_be_recorded_is_refused_before_data_are_read(tmp_path: Path) -> None:
    config = with_settings(small_config("simclr"), capture=True)
    for clash in ({"chunk": 2}, {"precision": "fp16"}):
        with pytest.raises(InputError, match="capture is True"):
            check_config(with_settings(config, **clash))
    with pytest.raises(InputError, match="capture is true, and the device is cpu"):
        train(with_settings(config, device="cpu"), "nowhere", tmp_path / "run")
