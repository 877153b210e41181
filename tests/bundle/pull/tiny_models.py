"""Repositories of a few kilobytes, written node by node, whose embeddings NumPy can compute.

An image is a matrix times its pixels, a text the masked sum of its words' rows; each layout holds
the same two towers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SIDE = 8
DIM = 6
SCALE, BIAS = 12.5, -3.25
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "cat", "query", ":", "photo", "of"]
Rows = NDArray[np.float32]

_RNG = np.random.default_rng(5)
PIXEL_WEIGHT: Rows = _RNG.standard_normal((3 * SIDE * SIDE, DIM)).astype(np.float32)
WORD_ROWS: Rows = _RNG.standard_normal((len(WORDS), DIM)).astype(np.float32)
PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
    "image_mean": MEAN,
    "image_std": STD,
}


def unit(rows: NDArray[Any]) -> Rows:
    """Return rows of unit length."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def embed_pixels(pixels: NDArray[np.uint8]) -> Rows:
    """Return the image tower's rows of pixels (n, 8, 8, 3), by its definition."""
    levels = (pixels / 255 - MEAN) / STD
    return unit(levels.transpose(0, 3, 1, 2).reshape(len(pixels), -1) @ PIXEL_WEIGHT)


def list_ids(text: str) -> list[int]:
    """Return the ids of a text between its two marks."""
    words = text.replace(":", " :").split()
    return [2, *(WORDS.index(word) if word in WORDS else 1 for word in words), 3]


def embed_texts(texts: list[str], pooling: str = "sum") -> Rows:
    """Return the text tower's rows, by its definition."""
    states = [WORD_ROWS[list_ids(text)] for text in texts]
    pools = {
        "sum": lambda s: s.sum(0),
        "mean": lambda s: s.mean(0),
        "cls": lambda s: s[0],
        "max": lambda s: s.max(0),
        "last": lambda s: s[-1],
    }
    return unit(np.stack([pools[pooling](s) for s in states]))


def image_nodes(pixels: str, output: str, *, rank: int = 2) -> list[onnx.NodeProto]:
    """Return the image tower; `rank` 3 or 4 repeats its row as tokens or as a map."""
    flat = helper.make_node("Flatten", [pixels], ["flat"])
    if rank == 2:
        return [flat, helper.make_node("MatMul", ["flat", "pixel_weight"], [output])]
    return [
        flat,
        helper.make_node("MatMul", ["flat", "pixel_weight"], ["row"]),
        helper.make_node("Reshape", ["row", f"shape_{rank}"], [output]),
    ]


def text_nodes(ids: str, mask: str, output: str) -> list[onnx.NodeProto]:
    """Return the text tower: a row per token, and with a `mask` their sum."""
    states = helper.make_node("Gather", ["word_rows", ids], ["states" if mask else output])
    if not mask:
        return [states]
    return [
        states,
        helper.make_node("Cast", [mask], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last_axis"], ["column"]),
        helper.make_node("Mul", ["states", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "token_axis"], [output], keepdims=0),
    ]


def declare(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
    """Return the declaration of an input or output."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    *,
    opset: int = 17,
    location: str = "",
) -> None:
    """Write a graph with the weights that its nodes read, outside it where `location` says so."""
    weights = {
        "pixel_weight": PIXEL_WEIGHT,
        "word_rows": WORD_ROWS,
        "last_axis": np.array([2]),
        "token_axis": np.array([1]),
        "shape_3": np.array([-1, 1, DIM]),
        "shape_4": np.array([-1, DIM, 1, 1]),
        "positions": np.zeros((1, 16, DIM), np.float32),
        "scale": np.array(SCALE, np.float32),
        "bias": np.array(BIAS, np.float32),
    }
    read = {name for node in nodes for name in node.input}
    used = [numpy_helper.from_array(w, name) for name, w in weights.items() if name in read]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, used)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    model.doc_string = "/home/somebody/export.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    if location:
        onnx.save_model(
            model, str(path), save_as_external_data=True, location=location, size_threshold=100
        )
    else:
        onnx.save(model, str(path))


def write_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json` and its configuration."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {"pad_token": {"content": "[PAD]"}, "model_max_length": 16},
    )


def write_json(path: Path, content: Any) -> None:
    """Write a configuration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


PIXELS = declare("pixel_values", TensorProto.FLOAT, "batch", 3, SIDE, SIDE)
IDS = declare("input_ids", TensorProto.INT64, "batch", "length")
MASK = declare("attention_mask", TensorProto.INT64, "batch", "length")


def write_image(path: Path, **options: Any) -> None:
    """Write the image tower alone, its output named `image_embeds`."""
    out = [declare("image_embeds", TensorProto.FLOAT, "batch", DIM)]
    save(path, image_nodes("pixel_values", "image_embeds"), [PIXELS], out, **options)


def write_text(path: Path, **options: Any) -> None:
    """Write the text tower alone, its output named `text_embeds`."""
    out = [declare("text_embeds", TensorProto.FLOAT, "batch", DIM)]
    nodes = text_nodes("input_ids", "attention_mask", "text_embeds")
    save(path, nodes, [IDS, MASK], out, **options)


def write_split(folder: Path, **options: Any) -> Path:
    """Write the layout of onnx-community: a graph for each tower."""
    write_image(folder / "onnx/vision_model.onnx", **options)
    write_text(folder / "onnx/text_model.onnx", **options)
    return _describe(folder)


def write_fused(folder: Path, **options: Any) -> Path:
    """Write one graph with both towers and the logits of their pairs."""
    nodes = [
        *image_nodes("pixel_values", "image_row"),
        *text_nodes("input_ids", "attention_mask", "text_row"),
        helper.make_node("LpNormalization", ["image_row"], ["image_embeds"], axis=-1),
        helper.make_node("LpNormalization", ["text_row"], ["text_embeds"], axis=-1),
        helper.make_node("Transpose", ["text_embeds"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["image_embeds", "columns"], ["cosines"]),
        helper.make_node("Mul", ["cosines", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits_per_image"]),
    ]
    outputs = [
        declare("logits_per_image", TensorProto.FLOAT, "images", "texts"),
        declare("text_embeds", TensorProto.FLOAT, "texts", DIM),
        declare("image_embeds", TensorProto.FLOAT, "images", DIM),
    ]
    save(folder / "onnx/model.onnx", nodes, [IDS, PIXELS, MASK], outputs, **options)
    return _describe(folder)


def write_immich(folder: Path) -> Path:
    """Write the layout of immich: a batch of one, int32 tokens, outputs named `embedding`."""
    length = 16
    save(
        folder / "visual/model.onnx",
        image_nodes("image", "embedding"),
        [declare("image", TensorProto.FLOAT, 1, 3, SIDE, SIDE)],
        [declare("embedding", TensorProto.FLOAT, 1, DIM)],
    )
    mask = [
        helper.make_node("Cast", ["text"], ["float_ids"], to=TensorProto.FLOAT),
        helper.make_node("Sign", ["float_ids"], ["not_pad"]),
        *text_nodes("text", "not_pad", "embedding"),
    ]
    save(
        folder / "textual/model.onnx",
        mask,
        [declare("text", TensorProto.INT32, 1, length)],
        [declare("embedding", TensorProto.FLOAT, 1, DIM)],
    )
    write_json(folder / "config.json", {"embed_dim": DIM, "text_cfg": {"context_length": length}})
    write_json(folder / "visual/preprocess_cfg.json", {"size": SIDE, "mean": MEAN, "std": STD})
    write_tokenizer(folder / "textual")
    return folder


def write_image_only(folder: Path, *, rank: int = 3, model_type: str = "vit") -> Path:
    """Write an image tower alone: a state per token, or a map of a convolution."""
    shape: list[str | int] = ["batch", 1, DIM] if rank == 3 else ["batch", DIM, 1, 1]
    save(
        folder / "onnx/model.onnx",
        image_nodes("pixel_values", "last_hidden_state", rank=rank),
        [PIXELS],
        [declare("last_hidden_state", TensorProto.FLOAT, *shape)],
    )
    write_json(folder / "config.json", {"model_type": model_type})
    write_json(folder / "preprocessor_config.json", PROCESSOR)
    return folder


def write_sentences(folder: Path, pooling: str = "mean") -> Path:
    """Write a text tower as sentence-transformers does, with prompts."""
    save(
        folder / "onnx/model.onnx",
        text_nodes("input_ids", "", "last_hidden_state"),
        [IDS, MASK],
        [declare("last_hidden_state", TensorProto.FLOAT, "batch", "length", DIM)],
    )
    write_json(folder / "config.json", {"model_type": "bert", "max_position_embeddings": 16})
    write_tokenizer(folder)
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [
        {"path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling/config.json", {"pooling_mode": _MODES.get(pooling, pooling)})
    prompts = {"query": "query: ", "passage": "a "}
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts})
    return folder


_MODES = {"last": "lasttoken"}


def _describe(folder: Path) -> Path:
    write_json(folder / "config.json", {"model_type": "clip", "projection_dim": DIM})
    write_json(folder / "preprocessor_config.json", PROCESSOR)
    write_tokenizer(folder)
    card = (
        "---\nlicense: mit\nlanguage:\n- en\nbase_model: some/model\n---\n# A model\nlicense: no\n"
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder
