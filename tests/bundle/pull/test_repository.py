"""A repository lists its files and hands out only those that it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinlens.bundle.pull.repository import FolderRepository
from twinlens.errors import BundleError


def test_a_folder_lists_its_files_with_their_sizes(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"123")
    repository = FolderRepository(tmp_path)
    assert repository.files == {"onnx/model.onnx": 3}
    assert repository.fetch(["onnx/model.onnx"]) == tmp_path


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"config\.json"):
        FolderRepository(tmp_path).fetch(["config.json"])


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nothing_here"):
        FolderRepository(tmp_path / "nothing_here")
