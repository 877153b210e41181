"""The bundle that ships for photographs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import twinlens
from twinlens.bundle.arrays import Rows
from twinlens.bundle.calibration.calibration import CosineVerdict, read_calibration
from twinlens.bundle.classes import build_class_bank
from twinlens.bundle.encoder import Encoder
from twinlens.bundle.location import DRAWINGS, PHOTOGRAPHS, SHIPPED, find_bundle, name_shipped
from twinlens.bundle.store import read_manifest
from twinlens.demo.drawings import draw_all
from twinlens.demo.photographs import FOLDER, list_photographs


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return twinlens.open_bundle(PHOTOGRAPHS, threads=1, engine="onnxruntime")


def draw_heart() -> bytes:
    picture = Image.new("RGB", (64, 64), "white")
    canvas = ImageDraw.Draw(picture)
    canvas.ellipse((12, 12, 34, 34), fill="red")
    canvas.ellipse((30, 12, 52, 34), fill="red")
    canvas.polygon([(13, 28), (51, 28), (32, 54)], fill="red")
    return save_png(picture)


def save_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_it_gives_its_golden_rows(encoder: Encoder) -> None:
    replay = encoder.check()
    assert replay.image_cosine is not None and replay.image_cosine > 0.95
    assert replay.text_cosine is not None and replay.text_cosine > 0.9999


def test_a_drawing_is_read_as_the_drawings_encoder_reads_it(encoder: Encoder) -> None:
    drawings = twinlens.open_bundle(DRAWINGS, threads=1, engine="onnxruntime")
    (joined,), (alone,) = (one.embed_images([draw_heart()]) for one in (encoder, drawings))
    assert np.abs(joined[1::2]).max() < 1e-6
    assert joined[0::2] @ alone > 0.97


def test_a_text_says_in_one_half_what_the_drawings_encoder_says(encoder: Encoder) -> None:
    drawings = twinlens.open_bundle(DRAWINGS, threads=1, engine="onnxruntime")
    texts = ["a red heart", "Hund", "犬", "龘 and words never read before"]
    half = encoder.embed_texts(texts)[:, 0::2]
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    assert (half * drawings.embed_texts(texts)).sum(1).min() > 0.999


def test_words_for_one_thing_lie_together_in_every_language(encoder: Encoder) -> None:
    rows = encoder.embed_texts(["lighthouse", "Leuchtturm", "phare", "灯塔", "violin", "pizza"])
    near = rows[0] @ rows.T
    assert near[1:4].min() > near[4:].max()


def test_a_picture_is_read_alike_alone_and_among_others(encoder: Encoder) -> None:
    pictures = [draw_heart(), Path("examples/heart.png").read_bytes()]
    together = encoder.embed_images(pictures)
    alone = np.concatenate([encoder.embed_images([one]) for one in pictures])
    assert np.abs(together - alone).max() < 1e-5


def judge(encoder: Encoder, pictures: list[bytes], bank: Rows) -> list[CosineVerdict]:
    calibration = read_calibration(encoder.manifest)
    assert calibration is not None
    rows, scale = encoder.embed_images(pictures), encoder.manifest.similarity.scale
    return [
        calibration.judge_classes(cosines, scale, level=level)
        for cosines, level in zip(rows @ bank.T, calibration.find_levels(rows), strict=True)
    ]


ELSEWHERE = ("violin", "snake", "butterfly", "aircraft carrier", "accordion")


def test_it_says_that_nothing_fits_where_a_photograph_shows_none_of_the_classes(
    encoder: Encoder,
) -> None:
    pictures = [(FOLDER / one.file).read_bytes() for one in list_photographs()]
    bank = build_class_bank(encoder.embed_texts, ELSEWHERE, encoder.manifest.templates)
    answered = [not verdict.none_of_these for verdict in judge(encoder, pictures, bank)]
    assert np.mean(answered) <= 0.15


@pytest.mark.parametrize(
    ("file", "name"), [("cat-named-Chelsea.webp", "cat"), ("pizza-on-a-table.webp", "pizza")]
)
def test_it_answers_where_one_of_the_classes_is_right(
    encoder: Encoder, file: str, name: str
) -> None:
    bank = build_class_bank(encoder.embed_texts, (name, *ELSEWHERE), encoder.manifest.templates)
    (verdict,) = judge(encoder, [(FOLDER / file).read_bytes()], bank)
    assert not verdict.none_of_these
    assert verdict.probabilities.argmax() == 0


def test_it_doubts_drawings_too(encoder: Encoder) -> None:
    """Drawings lie nearer to all texts than photographs, which alone is no answer."""
    shown = ("dog", "house", "tree", "fish", "car", "umbrella")
    drawn = {picture.name: picture.image for picture in draw_all(128)}
    pictures = [save_png(drawn[name]) for name in shown]
    right, wrong = (
        build_class_bank(encoder.embed_texts, names, encoder.manifest.templates)
        for names in (shown, ELSEWHERE)
    )
    assert not any(verdict.none_of_these for verdict in judge(encoder, pictures, right))
    assert np.mean([verdict.none_of_these for verdict in judge(encoder, pictures, wrong)]) >= 0.5


def test_the_drawings_encoder_is_calibrated_too() -> None:
    manifest = read_manifest(find_bundle(DRAWINGS))
    assert read_calibration(manifest) is not None


def test_every_shipped_bundle_is_found_by_name_and_its_name_by_its_folder() -> None:
    for name in SHIPPED:
        assert (find_bundle(name) / "bundle.json").exists()
    assert name_shipped(find_bundle(PHOTOGRAPHS)) == PHOTOGRAPHS
    assert name_shipped(find_bundle(DRAWINGS)) == "builtin"
    assert name_shipped(Path("elsewhere")) is None


def test_it_is_small() -> None:
    size = sum(file.stat().st_size for file in find_bundle(PHOTOGRAPHS).iterdir())
    assert size < 26e6
