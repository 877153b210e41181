"""Devices by name, and what is said of one that fails."""

from __future__ import annotations

import pytest

from twinlens.bundle.engine import onnxruntime_session
from twinlens.bundle.engine.device import explain_failure, list_devices, read_number
from twinlens.bundle.engine.onnxruntime_session import choose_device, describe_device
from twinlens.errors import InputError, MissingDependencyError


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("auto", ("auto",)),
        ("cpu", ("cpu",)),
        ("cuda", ("cuda:0",)),
        ("cuda:3", ("cuda:3",)),
        ("cuda:0, cuda:1", ("cuda:0", "cuda:1")),
    ],
)
def test_devices_are_listed(text: str, devices: tuple[str, ...]) -> None:
    assert list_devices(text) == devices


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu", "device 'gpu' is unknown; choose auto, cpu, cuda, or cards by number"),
        ("cuda:x", "device 'cuda:x' is unknown"),
        ("", "choose auto"),
        ("cpu,cuda:0", "mixes devices"),
        ("cuda:1,cuda:1", "names a GPU twice"),
        ("cuda,cuda:0", "names a GPU twice"),
    ],
)
def test_what_is_no_device_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        list_devices(text)
    assert caught.value.field == "device"


@pytest.mark.parametrize(
    "text",
    [
        "[ONNXRuntimeError] : 1 : FAIL : bfc_arena.cc: Failed to allocate memory for requested "
        "buffer of size 9633792",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "CUDA driver error 2: out of memory: it could not allocate",
    ],
)
def test_a_full_card_is_told(text: str) -> None:
    failure = explain_failure(RuntimeError(text), "cuda:1")
    assert failure is not None and failure.kind == "full" and failure.code == "device_full"
    assert "device cuda:1 has no memory left" in failure.message
    assert "--device-memory" in failure.message and "bfc_arena" not in failure.message


@pytest.mark.parametrize(
    "text",
    [
        "CUDA failure 700: an illegal memory access was encountered ; GPU=0",
        "CUDNN_STATUS_EXECUTION_FAILED",
        "CUDA driver error 719: it could not wait for the device",
    ],
)
def test_a_lost_card_is_told(text: str) -> None:
    failure = explain_failure(RuntimeError(text), "cuda:0")
    assert failure is not None and failure.kind == "lost" and "nvidia-smi" in failure.message


def test_other_failures_are_not_the_devices() -> None:
    assert explain_failure(RuntimeError("Got invalid dimensions for input: pixels"), "cpu") is None


class Runtime:
    """ONNX Runtime as far as it is asked for its providers."""

    def __init__(self, *providers: str) -> None:
        self.get_available_providers = lambda: list(providers)


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two cards and an ONNX Runtime that could use them."""
    runtime = Runtime("CUDAExecutionProvider", "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime_session, "import_runtime", lambda: runtime)
    monkeypatch.setattr(onnxruntime_session, "count_cards", lambda: 2)
    monkeypatch.setattr(onnxruntime_session, "name_card", lambda number: f"model {number}")
    return monkeypatch


def test_auto_takes_the_first_card(cards: pytest.MonkeyPatch) -> None:
    assert choose_device("auto") == "cuda:0"
    assert choose_device("cuda:1") == "cuda:1"
    assert choose_device("cpu") == "cpu"
    assert describe_device("cuda:1") == "model 1"
    assert describe_device("cpu") == "cpu"


def test_a_card_that_is_not_here_is_refused(cards: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'cuda:2' is not on this machine .*cuda:0, cuda:1"):
        choose_device("cuda:2")
    cards.setattr(onnxruntime_session, "count_cards", lambda: 0)
    with pytest.raises(InputError, match="no card by the driver"):
        choose_device("cuda:0")
    assert choose_device("auto") == "cpu"


def test_a_runtime_without_cuda_is_told(cards: pytest.MonkeyPatch) -> None:
    runtime = Runtime("CPUExecutionProvider")
    cards.setattr(onnxruntime_session, "import_runtime", lambda: runtime)
    assert choose_device("auto") == "cpu"
    with pytest.raises(MissingDependencyError, match="needs onnxruntime-gpu"):
        choose_device("cuda:0")


def test_a_card_has_its_number() -> None:
    assert [read_number(device) for device in ("cuda:0", "cuda:7")] == [0, 7]
