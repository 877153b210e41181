"""A bundle with an attention graph, made without torch: it looks where a picture is dark.

Small and true to its definition, so that a test can say where the attention has to be.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.conftest import COLOURS, draw_square
from twinlens.bundle.golden import write_golden
from twinlens.bundle.manifest import AttentionSpec, ImageSpec, Manifest, SimilaritySpec
from twinlens.bundle.store import write_bundle
from twinlens.kernels.onnx.attach import build_similarity

SIDE = 48
GRID = 6
DIM = 3
_SPEC = ImageSpec(
    "image.onnx", SIDE, SIDE, "squash", SIDE, "bicubic", mean=(0.0,) * 3, std=(1.0,) * 3
)


def write_attentive_bundle(out: Path) -> Path:
    """Write the bundle to `out`: embeddings are mean colours, attention is darkness."""
    manifest = Manifest(
        name="attentive",
        embedding_dim=DIM,
        similarity=SimilaritySpec(kind="softmax", scale=20.0, bias=0.0, file="similarity.onnx"),
        image=_SPEC,
        attention=AttentionSpec("attention.onnx", heads=1, rows=GRID, columns=GRID),
        provenance={"method": "drawn"},
    )
    write_bundle(out, manifest, _fill)
    return out


def _fill(folder: Path) -> None:
    onnx.save(build_similarity("softmax", scale=20.0, bias=0.0), folder / "similarity.onnx")
    _save(_embedding_graph(), folder / "image.onnx")
    _save(_attention_graph(), folder / "attention.onnx")
    rows = np.array(list(COLOURS.values()), np.float32) + 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pictures = [draw_square(colour) for colour in COLOURS]
    write_golden(folder, pictures, rows, [], np.zeros((0, DIM), np.float32))


def _embedding_graph() -> onnx.GraphProto:
    return onnx.parser.parse_graph(
        f"""image (uint8[n,{SIDE},{SIDE},3] pixels) => (float[n,{DIM}] embedding) {{
            floats = Cast<to=1>(pixels)
            axes = Constant<value_ints=[1,2]>()
            mean = ReduceMean<keepdims=0>(floats, axes)
            one = Constant<value=float {{1.0}}>()
            raw = Add(mean, one)
            embedding = LpNormalization<axis=1, p=2>(raw)
        }}"""
    )


def _attention_graph() -> onnx.GraphProto:
    patch = SIDE // GRID
    graph = onnx.parser.parse_graph(
        f"""attention (uint8[n,{SIDE},{SIDE},3] pixels)
            => (float[n,1,{GRID},{GRID}] attention) {{
            floats = Cast<to=1>(pixels)
            planes = Transpose<perm=[0,3,1,2]>(floats)
            channel = Constant<value_ints=[1]>()
            grey = ReduceMean<keepdims=1>(planes, channel)
            means = AveragePool<kernel_shape=[{patch},{patch}], strides=[{patch},{patch}]>(grey)
            dark = Sub(white, means)
            space = Constant<value_ints=[2,3]>()
            total = ReduceSum<keepdims=1>(dark, space)
            attention = Div(dark, total)
        }}"""
    )
    graph.initializer.append(numpy_helper.from_array(np.array(256.0, np.float32), "white"))
    return graph


def _save(graph: onnx.GraphProto, path: Path) -> None:
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
