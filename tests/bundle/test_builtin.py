"""The builtin bundle: complete, small, multilingual, and correct on basic images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import twinlens
from twinlens.bundle.encoder import BUILTIN, Encoder, find_bundle, open_bundle
from twinlens.bundle.golden import replay_golden
from twinlens.bundle.store import verify_bundle
from twinlens.demo.emoji import find_font
from twinlens.demo.picture import Picture

RED, BLUE, YELLOW, WHITE = "#dd2e44", "#3b88c3", "#fdcb58", "#ffffff"
# One word in eleven languages; each has at least one known token.
HEARTS = {
    "en": "red heart",
    "de": "rotes Herz",
    "fr": "cœur rouge",
    "es": "corazón rojo",
    "it": "cuore rosso",
    "pt": "coração vermelho",
    "ru": "красное сердце",
    "ja": "赤いハート",
    "zh": "红心",
    "ko": "빨간색 하트",
    "hi": "लाल दिल",
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return twinlens.open_bundle(BUILTIN)


def _draw_heart(colour: str) -> Image.Image:
    image = Image.new("RGB", (256, 256), WHITE)
    draw = ImageDraw.Draw(image)
    draw.ellipse((24, 36, 136, 148), fill=colour)
    draw.ellipse((120, 36, 232, 148), fill=colour)
    draw.polygon([(31, 118), (80, 90), (128, 77), (176, 90), (225, 118), (128, 236)], fill=colour)
    return image


def _draw_circle(colour: str) -> Image.Image:
    image = Image.new("RGB", (256, 256), WHITE)
    ImageDraw.Draw(image).ellipse((20, 20, 236, 236), fill=colour)
    return image


def _draw_square(colour: str) -> Image.Image:
    image = Image.new("RGB", (256, 256), WHITE)
    ImageDraw.Draw(image).rectangle((30, 30, 226, 226), fill=colour)
    return image


def test_the_files_are_those_of_the_manifest_and_at_most_12_megabytes() -> None:
    manifest = verify_bundle(find_bundle(BUILTIN))
    listed = {entry.path for entry in manifest.files}
    folder = find_bundle(BUILTIN)
    assert {path.name for path in folder.iterdir()} == {*listed, "bundle.json"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 12_000_000


def test_it_gives_the_embeddings_that_torch_gave(encoder: Encoder) -> None:
    replay = replay_golden(encoder)
    assert replay.count > 10
    assert replay.image_cosine is not None
    assert replay.image_cosine > 1 - 1e-5
    assert replay.text_cosine is not None
    assert replay.text_cosine > 1 - 1e-5


def test_two_openings_agree_on_the_revision(encoder: Encoder) -> None:
    assert open_bundle(BUILTIN).revision == encoder.revision
    assert encoder.name == "builtin"


def test_zero_shot_distinguishes_drawn_images(encoder: Encoder) -> None:
    pictures = [_draw_heart(RED), _draw_circle(BLUE), _draw_square(YELLOW)]
    classes = ["red heart", "blue circle", "yellow square"]
    scores = encoder.zero_shot(pictures, classes)
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)


def test_colour_words_count(encoder: Encoder) -> None:
    hearts = encoder.embed_images([_draw_heart(RED), _draw_heart(BLUE)])
    red, blue = encoder.embed_texts(["red heart", "blue heart"]) @ hearts.T
    assert red[0] > red[1]
    assert blue[1] > blue[0]


@pytest.mark.parametrize("language", HEARTS)
def test_a_heart_is_found_in_every_language(encoder: Encoder, language: str) -> None:
    pictures = [_draw_heart(RED), _draw_circle(BLUE), _draw_square(YELLOW)]
    scores = encoder.embed_texts([HEARTS[language]]) @ encoder.embed_images(pictures).T
    assert scores.argmax() == 0


@pytest.fixture(scope="module")
def emoji() -> list[Picture]:
    """All emoji of the system's font, drawn as in the demo."""
    font = find_font()
    if font is None:
        pytest.skip("no colour emoji font on this system")
    return list(font.draw_all(128))


@pytest.fixture(scope="module")
def emoji_rows(encoder: Encoder, emoji: list[Picture]) -> Any:
    """Their embeddings."""
    return encoder.embed_images([picture.image for picture in emoji])


@pytest.mark.parametrize("word", ["dog", "Hund", "chien", "perro", "犬"])
def test_the_plain_word_finds_the_dog_among_all_emoji(
    encoder: Encoder, emoji: list[Picture], emoji_rows: Any, word: str
) -> None:
    scores = encoder.embed_texts([word])[0] @ emoji_rows.T
    first = [emoji[i].name for i in np.argsort(-scores)[:3]]
    assert first[0] in ("dog", "dog face"), first


@pytest.mark.parametrize("length", [64, 128])
def test_shorter_embeddings_are_unit_rows_and_still_discriminate(
    encoder: Encoder, length: int
) -> None:
    pictures = [_draw_heart(RED), _draw_circle(BLUE), _draw_square(YELLOW)]
    images = encoder.embed_images(pictures, dimensions=length)
    texts = encoder.embed_texts(["red heart", "blue circle", "yellow square"], dimensions=length)
    assert images.shape == texts.shape == (3, length)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1.0, atol=1e-5)
    assert (texts @ images.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_padding_beside_a_longer_text_changes_nothing(encoder: Encoder) -> None:
    alone = encoder.embed_texts(["dog"])
    beside = encoder.embed_texts(["dog", "a long text about a small dog and a large cat"])
    np.testing.assert_allclose(beside[:1], alone, atol=1e-5)


def test_its_provenance_names_all_data_without_share_alike(encoder: Encoder) -> None:
    provenance = encoder.manifest.provenance
    assert len(provenance["data"]) > 10
    for source in provenance["data"]:
        assert source["licence"]
        assert source["copyright"]
        assert "-SA" not in source["licence"]
        assert "openmoji" not in source["name"].lower()
    shipped, held_out = (provenance["metrics"][name] for name in ("shipped", "style_held_out"))
    assert shipped["seen_noto_r1"] > 85
    assert held_out["seen_blobmoji_r1"] < shipped["seen_blobmoji_r1"]


def test_the_notice_names_every_source(encoder: Encoder) -> None:
    notice = Path(twinlens.__file__).parent.parent / "NOTICE"
    if not notice.exists():
        pytest.skip("installed without the sources beside it")
    text = notice.read_text(encoding="utf-8")
    for source in encoder.manifest.provenance["data"]:
        assert source["name"] in text
        assert source["source"] in text
        assert source["commit"] in text


def test_it_embeds_without_torch_and_onnx() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'triton'): sys.modules[name] = None\n"
        "import twinlens\n"
        "encoder = twinlens.open_bundle('builtin', threads=1)\n"
        "assert encoder.embed_texts(['dog']).shape == (1, 256)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
