"""Pooling, dense layers and prompts are read as sentence-transformers writes them, or refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.bundle.pull.repository import FolderRepository
from twinlens.bundle.pull.sentence import read_layers, read_pooling, read_prompts
from twinlens.bundle.pull.tensors import read_tensors
from twinlens.errors import BundleError

MODULE = "sentence_transformers.models."


def write_tensors(path: Path, tensors: dict[str, np.ndarray[Any, Any]], kind: str = "F32") -> None:
    """Write a safetensors file by its own definition."""
    header, data = {}, b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "word_embedding_dimension": 8}, "mean"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode": "max"}, "max"),
    ],
)
def test_a_pooling(config: dict[str, Any], pooling: str) -> None:
    assert read_pooling(config) == pooling


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode_mean_tokens": True, "include_prompt": False},
        {},
    ],
)
def test_a_pooling_that_cannot_be_repeated_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="1_Pooling"):
        read_pooling(config)


def test_a_dense_layer_comes_from_safetensors(tmp_path: Path) -> None:
    weight, bias = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)
    tensors = {"linear.weight": weight, "linear.bias": bias}
    write_tensors(tmp_path / "2_Dense/model.safetensors", tensors)
    about = {"activation_function": "torch.nn.modules.activation.Tanh"}
    (tmp_path / "2_Dense/config.json").write_text(json.dumps(about))
    modules = [{"type": MODULE + "Pooling"}, {"type": MODULE + "Dense", "path": "2_Dense"}]
    (layer,) = read_layers(FolderRepository(tmp_path), modules)
    assert np.array_equal(layer.weight, weight)
    assert layer.bias is not None and np.array_equal(layer.bias, bias)
    assert layer.activation == "tanh"


def test_a_dense_layer_in_a_pickle_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense/config.json").write_text("{}")
    (tmp_path / "2_Dense/pytorch_model.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="never from a pickle"):
        read_layers(FolderRepository(tmp_path), [{"type": MODULE + "Dense", "path": "2_Dense"}])


def test_an_unknown_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="'LSTM'"):
        read_layers(FolderRepository(tmp_path), [{"type": MODULE + "LSTM"}])


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_tensors_of_every_kind_become_float32(kind: str, tmp_path: Path) -> None:
    values = np.array([[1.5, -2.0], [0.25, 96.0]], np.float32)
    stored: np.ndarray[Any, Any] = values
    if kind != "F32":
        upper = (values.view(np.uint32) >> 16).astype(np.uint16)
        stored = values.astype(np.float16) if kind == "F16" else upper
    write_tensors(tmp_path / "w.safetensors", {"other": values, "w": stored}, kind)
    assert np.array_equal(read_tensors(tmp_path / "w.safetensors", ["w", "none"])["w"], values)


def test_a_damaged_file_of_tensors_is_one_clear_line(tmp_path: Path) -> None:
    for content in (b"", b"\xff" * 40, struct.pack("<Q", 9) + b"not json!"):
        (tmp_path / "w.safetensors").write_bytes(content)
        with pytest.raises(BundleError, match="not a safetensors file"):
            read_tensors(tmp_path / "w.safetensors", ["w"])


def test_prompts_are_kept_by_their_purpose() -> None:
    found = read_prompts({"prompts": {"query": "query: ", "passage": "passage: "}})
    assert found == {
        "required": True,
        "default": "",
        "by_purpose": {"query": "query: ", "document": "passage: "},
    }


def test_a_default_prompt_stands_before_every_text() -> None:
    found = read_prompts({"prompts": {"sts": "say: "}, "default_prompt_name": "sts"})
    assert found["default"] == "say: "


def test_empty_prompts_are_none() -> None:
    assert read_prompts({"prompts": {"query": "", "document": ""}}) == {}
    assert read_prompts({}) == {}
