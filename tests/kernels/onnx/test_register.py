"""The runtime hook registers a library only where one exists and the session is on CUDA."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from twinlens.kernels.onnx.register import LIBRARY_NAME, find_library, register_library


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


def test_a_built_library_is_registered_for_a_session_on_cuda(built: Path) -> None:
    options = RecordingOptions()
    library = register_library(options, "CUDAExecutionProvider", folder=built)
    assert library == built / LIBRARY_NAME
    assert options.libraries == [str(library)]


def test_a_built_library_is_not_registered_for_a_session_on_the_cpu(built: Path) -> None:
    options = RecordingOptions()
    assert register_library(options, "CPUExecutionProvider", folder=built) is None
    assert options.libraries == []


def test_without_a_built_library_nothing_is_registered(tmp_path: Path) -> None:
    options = RecordingOptions()
    assert find_library(tmp_path) is None
    assert register_library(options, "CUDAExecutionProvider", folder=tmp_path) is None
    assert options.libraries == []


def test_the_hook_imports_neither_onnx_nor_torch() -> None:
    code = (
        "import sys, twinlens.kernels.onnx.register;"
        "found = {'onnx', 'torch', 'onnxruntime'} & set(sys.modules);"
        "sys.exit(str(found) if found else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
