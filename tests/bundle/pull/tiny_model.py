"""A CLIP of a few kilobytes in the layout of hubs, made without torch.

The image tower embeds the mean colour and the text tower the sum of its tokens, so a picture of a
colour lies beside its name.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

SIDE = 16
DIM = 16
WORDS = ["<pad>", "<start>", "<end>", "<unk>", "red", "green", "blue", "a", "photo", "of"]
CONFIG = {
    "model_type": "clip",
    "projection_dim": DIM,
    "logit_scale_init_value": 2.6592,
    "text_config": {"model_type": "clip_text_model", "max_position_embeddings": 16},
    "vision_config": {"model_type": "clip_vision_model", "image_size": SIDE},
}
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": SIDE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_convert_rgb": True,
}
CARD = b"---\nlicense: mit\ntags:\n- clip\n---\n# A tiny model\n"


def make_files(ballast: int = 0) -> dict[str, bytes]:
    """Return the files of the repository; `ballast` adds bytes to the image tower's graph."""
    rng = np.random.default_rng(5)
    image = np.linalg.qr(rng.standard_normal((DIM, 3)))[0].T.astype(np.float32)
    text = 0.01 * rng.standard_normal((len(WORDS), DIM)).astype(np.float32)
    for row, word in enumerate(("red", "green", "blue")):
        text[WORDS.index(word)] = image[row]
    text[0] = 0
    tower = _make_image_tower(image)
    if ballast:
        tower.metadata_props.add(key="ballast", value="x" * ballast)
    return {
        "README.md": CARD,
        "config.json": json.dumps(CONFIG).encode(),
        "preprocessor_config.json": json.dumps(PREPROCESSOR).encode(),
        "tokenizer.json": _make_tokenizer().encode(),
        "tokenizer_config.json": json.dumps(
            {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, "pad_token": "<pad>"}
        ).encode(),
        "onnx/vision_model.onnx": tower.SerializeToString(),
        "onnx/text_model.onnx": _make_text_tower(text).SerializeToString(),
        "pytorch_model.bin": b"a pickle that nobody may open",
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files as a folder on disk."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def _make_image_tower(weight: NDArray[np.float32]) -> onnx.ModelProto:
    graph = onnx.parser.parse_graph(
        f"""image (float[n,3,{SIDE},{SIDE}] pixel_values) => (float[n,{DIM}] image_embeds) {{
            mean = ReduceMean<axes=[2,3], keepdims=0>(pixel_values)
            half = Constant<value=float {{0.5}}>()
            scaled = Mul(mean, half)
            colour = Add(scaled, half)
            image_embeds = MatMul(colour, weight)
        }}"""
    )
    return _finish(graph, weight)


def _make_text_tower(weight: NDArray[np.float32]) -> onnx.ModelProto:
    graph = onnx.parser.parse_graph(
        f"""text (int64[n,l] input_ids, int64[n,l] attention_mask)
                => (float[n,{DIM}] text_embeds) {{
            rows = Gather<axis=0>(weight, input_ids)
            floats = Cast<to=1>(attention_mask)
            axes = Constant<value_ints=[2]>()
            mask = Unsqueeze(floats, axes)
            kept = Mul(rows, mask)
            along = Constant<value_ints=[1]>()
            text_embeds = ReduceSum<keepdims=0>(kept, along)
        }}"""
    )
    return _finish(graph, weight)


def _finish(graph: onnx.GraphProto, weight: NDArray[np.float32]) -> onnx.ModelProto:
    graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _make_tokenizer() -> str:
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    text: str = tokenizer.to_str()
    return text
