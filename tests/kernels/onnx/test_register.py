"""The runtime hook registers a library only where one exists and the session will be on CUDA."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from twinlens.kernels.onnx import register
from twinlens.kernels.onnx.register import LIBRARY_NAME, find_library, register_kernels

CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]


class RecordingOptions:
    """Stands for `SessionOptions` and keeps what is registered."""

    def __init__(self) -> None:
        self.libraries: list[str] = []

    def register_custom_ops_library(self, path: str) -> None:
        self.libraries.append(path)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / LIBRARY_NAME).write_bytes(b"")
    return tmp_path


def test_a_built_library_is_registered_for_a_session_on_cuda(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "has_cuda_device", lambda: True)
    options = RecordingOptions()
    library = register_kernels(options, CUDA, folder=built)
    assert library == built / LIBRARY_NAME
    assert options.libraries == [str(library)]


def test_cuda_that_is_listed_but_has_no_device_registers_nothing(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "has_cuda_device", lambda: False)
    options = RecordingOptions()
    assert register_kernels(options, CUDA, folder=built) is None
    assert options.libraries == []


def test_a_session_on_the_cpu_registers_nothing(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "has_cuda_device", lambda: True)
    options = RecordingOptions()
    assert register_kernels(options, ["CPUExecutionProvider"], folder=built) is None
    assert options.libraries == []


def test_without_a_built_library_nothing_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "has_cuda_device", lambda: True)
    options = RecordingOptions()
    assert find_library(tmp_path) is None
    assert register_kernels(options, CUDA, folder=tmp_path) is None
    assert options.libraries == []


def test_a_machine_without_the_cuda_driver_has_no_cuda_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(register, "_CUDA_DRIVER", "libcuda-that-no-machine-has.so")
    assert register.has_cuda_device.__wrapped__() is False


def test_the_hook_imports_neither_onnx_nor_torch() -> None:
    code = (
        "import sys, twinlens.kernels.onnx.register;"
        "found = {'onnx', 'torch', 'onnxruntime'} & set(sys.modules);"
        "sys.exit(str(found) if found else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
