"""A graph that does not compute what the model computes never becomes a bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest

from twinlens.errors import ConflictError, InputError
from twinlens.training.export import Description, ParityError, export, export_encoder
from twinlens.training.export.gate import measure_gap
from twinlens.training.export.graphs import trace

if TYPE_CHECKING:
    from tests.training.export.conftest import Exported


def text_only(exported: Exported) -> Description:
    """Return the description without its image tower, which these tests do not need."""
    return dataclasses.replace(exported.description, image=None)


def spoil(graph: ir.Model) -> ir.Model:
    """Change one of the many weights of a graph by a fifth."""
    value = next(
        value
        for name, value in graph.graph.initializers.items()
        if name.endswith("mlp.c_fc.bias") and value.const_value is not None
    )
    assert value.const_value is not None
    value.const_value = ir.tensor(value.const_value.numpy() + np.float32(0.2))
    return graph


def test_a_wrong_graph_is_refused_by_name_and_gap_and_nothing_is_left_on_disk(
    exported_vit: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "trace", lambda *arguments: spoil(trace(*arguments)))
    with pytest.raises(ParityError, match=r"the text tower .* 1 - cosine = \d.*no bundle"):
        export_encoder(text_only(exported_vit), tmp_path / "bundle", precisions=())
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_nothing_on_disk(
    exported_vit: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "check_parity", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_encoder(text_only(exported_vit), tmp_path / "bundle", precisions=())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_refused_before_any_work(
    exported_vit: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "prepare_text", lambda *_: pytest.fail("work was done"))
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ConflictError, match="--force"):
        export_encoder(text_only(exported_vit), tmp_path / "bundle")


def test_an_unknown_precision_is_refused_with_those_that_exist(
    exported_vit: Exported, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="'int4' is unknown; choose from fp32, int8, fp16"):
        export_encoder(text_only(exported_vit), tmp_path / "bundle", precisions=("int4",))


def test_the_gap_of_equal_rows_is_zero_and_of_rows_not_of_unit_length_no_number() -> None:
    rows = np.eye(3, 8, dtype=np.float32)
    assert measure_gap(rows, rows) == 0
    assert measure_gap(rows[[1, 0, 2]], rows) == pytest.approx(1)
    assert np.isnan(measure_gap(2 * rows, rows))
    assert np.isnan(measure_gap(rows[:2], rows))
    assert np.isnan(measure_gap(np.full_like(rows, np.nan), rows))
