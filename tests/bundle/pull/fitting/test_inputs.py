"""Each input is told by its name, type and rank; one that is not understood is refused."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from twinlens.bundle.pull.fitting.inputs import read_inputs
from twinlens.errors import BundleError

INT, INT32, FLOAT = TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT


def read(name: str, kind: int, rank: int) -> str:
    value = helper.make_tensor_value_info(name, kind, ["n"] * rank)
    return read_inputs(helper.make_graph([], "g", [value], []), "model.onnx")[0].role


@pytest.mark.parametrize(
    ("name", "kind", "rank", "role"),
    [
        ("pixel_values", FLOAT, 4, "pixels"),
        ("image", TensorProto.FLOAT16, 4, "pixels"),
        ("input_ids", INT, 2, "ids"),
        ("text", INT32, 2, "ids"),
        ("attention_mask", INT, 2, "mask"),
        ("token_type_ids", INT, 2, "token_types"),
        ("position_ids", INT, 2, "positions"),
    ],
)
def test_a_known_input(name: str, kind: int, rank: int, role: str) -> None:
    assert read(name, kind, rank) == role


@pytest.mark.parametrize(
    ("name", "kind", "rank"),
    [
        ("past_key_values.0.key", FLOAT, 4),
        ("pixel_attention_mask", INT, 2),
        ("spatial_shapes", INT, 2),
        ("input_ids", INT, 3),
    ],
)
def test_an_unknown_input_is_refused_by_name(name: str, kind: int, rank: int) -> None:
    with pytest.raises(BundleError, match=name):
        read(name, kind, rank)
