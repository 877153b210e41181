"""`/zeroshot` against open_clip's own evaluation: same weights, same images, same answers."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform
from PIL import Image
from starlette.testclient import TestClient

from twinlens.bundle.encoder import open_bundle
from twinlens.serving.settings import Limits, ServerSettings
from twinlens.serving.zeroshot.templates import SETS
from twinlens.training.export import export_encoder
from twinlens.training.export.sources import open_clip as source

pytestmark = pytest.mark.slow

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3}
VISION = {"image_size": 64, "patch_size": 16, "width": 96, "layers": 3, "head_width": 32}
CLASSES = ["cat", "dog", "red heart", "traffic light", "sailing boat", "umbrella", "snail", "key"]


class Silent:
    def stage(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...


def build_model() -> Any:
    torch.manual_seed(3)
    model = open_clip.model.CLIP(48, VISION, TEXT)
    model.visual.preprocess_cfg = {**vars(PreprocessCfg(size=64)), "size": (64, 64)}
    return model.eval()


def draw_images(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(count):
        width, height = rng.integers(40, 200, 2)
        rough = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        rough.resize((int(width), int(height)), Image.Resampling.BICUBIC).save(buffer, "PNG")
        images.append(buffer.getvalue())
    return images


def test_zero_shot_accuracy_matches_open_clip_to_a_tenth_of_a_point(
    make_client: Callable[..., TestClient], tmp_path: Path
) -> None:
    model, images = build_model(), draw_images(200)
    labels = np.random.default_rng(1).integers(0, len(CLASSES), len(images))
    templates = SETS["photo"]
    expected = score_with_open_clip(model, images, templates)

    description = source.describe_model(model, TEXT, name="small")
    export_encoder(description, tmp_path / "small", precisions=("fp32",), progress=Silent())
    settings = ServerSettings(limits=Limits(image_queue=512))
    client = make_client(settings, opener=lambda s, p: open_bundle(tmp_path / "small", threads=1))
    body = {"classes": CLASSES, "templates": "photo"}
    data = client.post("/zeroshot", files=[("images", i) for i in images], data=body).json()["data"]
    found = np.zeros_like(expected)
    for entry in data:
        for label in entry["labels"]:
            found[entry["index"], label["index"]] = label["score"]

    top1 = [100 * (scores.argmax(1) == labels).mean() for scores in (found, expected)]
    assert abs(top1[0] - top1[1]) <= 0.1
    assert np.abs(found - expected).max() < 0.01
    assert np.median(np.abs(found - expected)) < 1e-3


def score_with_open_clip(
    model: Any, images: list[bytes], templates: tuple[str, ...]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the probabilities (n, classes) of open_clip's classifier and transform."""
    transform = image_transform(64, is_train=False)
    pixels = torch.stack([transform(Image.open(io.BytesIO(i)).convert("RGB")) for i in images])
    fill: list[Callable[[str], str]] = [lambda c, t=t: t.replace("{}", c) for t in templates]  # type: ignore[misc]
    with torch.no_grad():
        bank = open_clip.build_zero_shot_classifier(
            model, open_clip.get_tokenizer("ViT-B-32"), CLASSES, fill, device="cpu"
        )
        rows = model.encode_image(pixels, normalize=True)
        scores: np.ndarray[Any, np.dtype[np.float32]] = (
            (model.logit_scale.exp() * rows @ bank).softmax(-1).numpy()
        )
    return scores
