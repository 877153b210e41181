"""How processes open bundles: whole beside a device, without towers elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twinlens.bundle.encoder import BUILTIN, Encoder, open_bundle
from twinlens.errors import BundleError, InputError
from twinlens.serving.settings import Limits, ServerSettings
from twinlens.serving.workers.openers import BundleOpeners

PHOTO = (np.arange(90 * 60 * 3) % 251).astype(np.uint8).reshape(90, 60, 3)
TEXTS = ["a red heart", "x", "\N{GRINNING FACE} and more"]


@pytest.fixture(scope="module")
def whole() -> Encoder:
    return open_bundle(BUILTIN)


def describe(encoder: Encoder) -> dict[str, object]:
    return {
        "revision": encoder.revision,
        "provider": "SomeCard",
        "engines": {"image": "there"},
        "batch_sizes": {"image": 48, "text": 96},
        "in_flight": {"image": 2, "text": 1},
    }


def make_openers(limits: Limits | None = None) -> BundleOpeners:
    return BundleOpeners(ServerSettings(limits=limits or Limits()), ("cpu",), threads=1)


def test_outside_the_encoder_process_pixels_tokens_and_scores_are_the_same(whole: Encoder) -> None:
    outer = make_openers().open_outer(BUILTIN, "fp32", describe(whole))
    assert np.array_equal(outer.preprocess(PHOTO), whole.preprocess(PHOTO))
    assert outer.tokenize(TEXTS) == whole.tokenize(TEXTS)
    rows = np.eye(4, whole.embedding_dim, dtype=np.float32)
    for found, wanted in zip(
        outer.classify(rows, rows[:3]), whole.classify(rows, rows[:3]), strict=True
    ):
        assert np.array_equal(found, wanted)
    assert (outer.provider, outer.engines) == ("SomeCard", {"image": "there"})
    assert (outer.batch_size("image"), outer.in_flight("image")) == (48, 2)
    with pytest.raises(RuntimeError, match="encoder process"):
        outer.encode_pixels(whole.preprocess(PHOTO)[None])


def test_the_limits_of_the_server_hold_outside_too(whole: Encoder) -> None:
    outer = make_openers(Limits(image_pixels=5000)).open_outer(BUILTIN, "fp32", describe(whole))
    with pytest.raises(InputError, match="limit is 5000"):
        outer.preprocess(PHOTO)


def test_a_bundle_that_changed_on_disk_is_not_opened(whole: Encoder, tmp_path: Path) -> None:
    told = describe(whole) | {"revision": "f" * 64}
    with pytest.raises(BundleError, match="changed on disk while the server runs"):
        make_openers().open_outer(BUILTIN, "fp32", told)
    with pytest.raises(InputError):
        make_openers().open_outer(str(tmp_path / "nothing"), "fp32", told)
