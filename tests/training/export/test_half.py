"""fp16 graphs: converted they are the traced ones but for names; some towers are traced again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from torch import Tensor, nn

from twinlens.bundle.manifest import ImageSpec
from twinlens.bundle.samples import golden_images
from twinlens.training.export import ImageTower, half
from twinlens.training.export.gate import open_graph
from twinlens.training.export.graphs import save_graphs, trace
from twinlens.training.export.sources import timm as timm_source
from twinlens.training.export.towers import ExportTower, prepare_image


class UpAndBack(nn.Module):
    """A tower with a step in float32, as some layers take it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.GELU(), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return (y.to(torch.float32) ** 2).to(y.dtype)


@pytest.fixture(scope="module")
def vit() -> ExportTower:
    """A vision transformer of two blocks, ready to trace."""
    torch.manual_seed(0)
    model: Any = timm.create_model("test_vit", num_classes=0, depth=2)
    image = timm_source.describe_model(model.eval(), name="small").image
    assert image is not None
    return prepare_image(image, golden_images(), lambda text: None)


def write_plain(tower: ExportTower, folder: Path) -> Path:
    path = folder / "image.onnx"
    graph = trace(tower.face, tower.example, (tower.input_name, "embedding"), tower.dims)
    save_graphs({path: graph}, path.with_suffix(".data"))
    return path


def test_the_converted_graph_is_the_traced_one_but_for_names(
    vit: ExportTower, tmp_path: Path
) -> None:
    assert half.stays_half(vit)
    converted = half.convert_graph(write_plain(vit, tmp_path), pixels=True)
    assert converted is not None
    steps, weights, rows = [], [], []
    for name, model in (("converted", converted), ("traced", half.trace_half(vit))):
        path = tmp_path / f"{name}.onnx"
        save_graphs({path: model}, path.with_suffix(".data"))
        graph = onnx.load(str(path), load_external_data=False).graph
        steps.append(
            [(n.op_type, [a.SerializeToString() for a in n.attribute]) for n in graph.node]
        )
        weights.append(path.with_suffix(".data").read_bytes())
        rows.append(open_graph(path, threads=1).run(None, vit.feed(0, 7))[0])
    assert steps[0] == steps[1]
    assert weights[0] == weights[1]
    np.testing.assert_array_equal(rows[0], rows[1])


def test_the_tower_itself_is_left_in_float32(vit: ExportTower) -> None:
    half.stays_half(vit)
    assert {p.dtype for p in vit.face.parameters()} == {torch.float32}
    assert {p.device.type for p in vit.face.parameters()} == {"cpu"}


def test_a_tower_with_a_step_in_float32_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    spec = ImageSpec("image.onnx", 32, 32, "shortest", 32, "bicubic", (0.5,) * 3, (0.5,) * 3)
    tower = prepare_image(ImageTower(UpAndBack().eval(), spec), golden_images(), lambda text: None)
    assert not half.stays_half(tower)
    asked: list[ExportTower] = []
    monkeypatch.setattr(half, "trace_half", asked.append)
    half.make_half(tower, tmp_path / "unread.onnx")
    assert asked == [tower]


def test_a_graph_without_the_faces_is_not_converted(vit: ExportTower, tmp_path: Path) -> None:
    path = tmp_path / "bare.onnx"
    bare = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    example = torch.from_numpy(np.ones((2, 3, 2, 2), np.float32))
    save_graphs(
        {path: trace(bare, example, ("pixels", "embedding"), {0: "n"})}, tmp_path / "bare.data"
    )
    assert half.convert_graph(path, pixels=True) is None
