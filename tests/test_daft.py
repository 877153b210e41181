"""Expressions in Daft: what the encoder itself answers, on one machine and by the Ray runner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.scale
ROOT = Path(__file__).parents[1]

_CODE = """
import sys
import daft
import numpy as np
import twinlens
from twinlens.daft import classify, embed_image, embed_text

bundle, runner, folder = sys.argv[1:]
if runner == "ray":
    from twinlens.index.ingest.ray_engine import start_ray
    start_ray(1, 128 << 20)
    daft.set_runner_ray()
paths = [f"{folder}/{colour}.png" for colour in ("red", "green", "blue")]
images = [open(path, "rb").read() for path in paths]
texts = ["red", "a photo of a green square", None]
frame = daft.from_pydict({"image": images, "path": paths, "text": texts})
frame = frame.with_columns({
    "row": embed_image(frame["image"], bundle),
    "same": embed_image(frame["path"], bundle),
    "query": embed_text(frame["text"], bundle),
    "class": classify(frame["image"], ["red", "green", "blue"], bundle),
}).to_pydict()
encoder = twinlens.open_bundle(bundle)
rows = np.stack([np.asarray(row, np.float32) for row in frame["row"]])
cosines = (rows * encoder.embed_images(images)).sum(1)
assert np.allclose(cosines, 1, atol=1e-6), cosines
assert np.array_equal(rows, np.stack([np.asarray(row, np.float32) for row in frame["same"]]))
queries = np.stack([np.asarray(row, np.float32) for row in frame["query"][:2]])
direct = encoder.embed_texts(texts[:2], input_type="query")
assert np.allclose((queries * direct).sum(1), 1, atol=1e-6)
assert frame["query"][2] is None
assert [one["label"] for one in frame["class"]] == ["red", "green", "blue"]
scores = encoder.zero_shot(images, ["red", "green", "blue"])
assert np.allclose([one["score"] for one in frame["class"]], scores.max(1), atol=1e-6)
try:
    bad = daft.from_pydict({"image": [b"nothing"]})
    bad.with_column("row", embed_image(bad["image"], bundle)).to_pydict()
except Exception as error:
    assert "image" in str(error), error
else:
    raise AssertionError("a damaged image was passed over")
print("all is equal")
"""


@pytest.mark.parametrize("runner", ["native", "ray"])
def test_expressions_answer_what_the_encoder_does(
    runner: str, toy_bundle: Path, tmp_path: Path, squares: dict[str, bytes]
) -> None:
    for colour, raw in squares.items():
        (tmp_path / f"{colour}.png").write_bytes(raw)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DAFT_ANALYTICS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(toy_bundle), runner, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=400,
    )
    assert "all is equal" in done.stdout, done.stderr[-3000:]


def test_the_module_is_at_most_a_hundred_lines() -> None:
    for name in ("daft", "mteb"):
        assert len((ROOT / "twinlens" / f"{name}.py").read_text("utf-8").splitlines()) <= 100
