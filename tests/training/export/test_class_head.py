"""A fine-tuned encoder brings its head: trained, exported and served, it answers as in torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from starlette.testclient import TestClient
from torch import Tensor

from tests.training.family import CLASSES, small_config, write_images
from tests.training.test_served import serve_bundle, some_images
from twinlens.bundle.class_head import read_heads
from twinlens.bundle.encoder import open_bundle
from twinlens.bundle.store import verify_bundle
from twinlens.errors import BundleError
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings
from twinlens.training.config import apply_sets
from twinlens.training.evaluation.embeddings import RunEmbedder
from twinlens.training.export import SourceOptions, export_encoder, load_source
from twinlens.training.loop.loop import train
from twinlens.training.runs.checkpoints import STATE, load_checkpoint
from twinlens.training.runs.run import open_run

COLOURS = ["blue", "green", "red"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("finetuned")
    data = write_images(folder / "data", 24, captions=False)
    settings = {"optimizer": "adamw", "lr": 3e-3, "steps": 40, "doctor": False}
    config = small_config("finetune", encoder="resnet-tiny", **settings)
    config = apply_sets(config, ["ema=0.8", "blends.share=0.3"])
    train(config, str(data), folder / "run")
    source = load_source(str(folder / "run"), SourceOptions())
    export_encoder(source, folder / "bundle", precisions=("fp32",))
    return folder / "run", folder / "bundle"


@pytest.fixture
def client(trained: tuple[Path, Path]) -> Iterator[TestClient]:
    service = Service(ServerSettings(), lambda source, precision: open_bundle(source))
    service.load("mine", str(trained[1]))
    with TestClient(add_middleware(build_app(service))) as opened:
        yield opened


def ask_torch(folder: Path, image: bytes) -> Tensor:
    """Return the class probabilities by the run's own numbers: the loss's formula once more."""
    run = open_run(folder)
    embedder = RunEmbedder(run)
    x = embedder.images(embedder.preprocessor(image)[None])
    assert run.classes is not None
    cosines = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(run.classes).mT
    return (run.learned["scale"] * cosines).softmax(dim=1)[0]


def assert_equal(labels: list[dict[str, Any]], expected: Tensor) -> None:
    ours = [0.0] * CLASSES
    for label in labels:
        ours[int(label["index"])] = label["score"]
    assert {label["label"] for label in labels} == set(COLOURS)
    assert np.allclose(ours, expected.numpy(), atol=1e-4)


def test_a_served_head_answers_as_torch_does(
    trained: tuple[Path, Path], client: TestClient
) -> None:
    for image in some_images():
        files = {"images": ("x.png", image, "image/png")}
        answer = client.post("/zeroshot", files=files, data={"classifier": "labels"})
        assert answer.status_code == 200, answer.text
        assert_equal(answer.json()["data"][0]["labels"], ask_torch(trained[0], image))


def test_it_names_the_classes_of_the_pictures_that_it_was_trained_on(
    trained: tuple[Path, Path], client: TestClient
) -> None:
    right = 0
    for path in sorted((trained[0].parent / "data").rglob("*.png")):
        files = {"images": ("x.png", path.read_bytes(), "image/png")}
        answer = client.post("/zeroshot", files=files, data={"classifier": "labels"})
        right += answer.json()["data"][0]["labels"][0]["label"] == path.parent.name
    assert right >= 22  # of 24


def test_classifiers_list_it_and_a_client_may_replace_but_not_delete_it(
    client: TestClient,
) -> None:
    (listed,) = client.get("/classifiers").json()["data"]
    assert (listed["name"], listed["num_classes"]) == ("labels", CLASSES)
    assert client.get("/classifiers/labels").json()["classes"] == COLOURS
    refused = client.delete("/classifiers/labels")
    assert refused.status_code == 409 and "belongs to its model" in refused.text
    files = [(f"examples:{name}", ("x.png", some_images()[0], "image/png")) for name in "ab"]
    made = client.put("/classifiers/labels", files=files)
    assert made.status_code == 200, made.text
    assert client.get("/classifiers/labels").json()["classes"] == ["a", "b"]
    assert client.delete("/classifiers/labels").status_code == 200


@pytest.mark.slow
def test_twinlens_serve_serves_it(trained: tuple[Path, Path]) -> None:
    image = some_images()[0]
    with serve_bundle(trained[1]) as url:
        files = {"images": ("x.png", image, "image/png")}
        answer = httpx.post(f"{url}/zeroshot", files=files, data={"classifier": "labels"})
        assert_equal(answer.json()["data"][0]["labels"], ask_torch(trained[0], image))


def test_what_is_served_is_the_running_mean(trained: tuple[Path, Path]) -> None:
    run = open_run(trained[0])
    state = load_checkpoint(run.checkpoint).tensors[STATE]
    assert run.classes is not None
    assert torch.equal(run.classes, state["ema_teacher.parts.classes.weight"])
    for name, value in run.image_encoder.state_dict().items():  # statistics too
        assert torch.equal(value, state[f"ema_teacher.parts.image.{name}"]), name


def test_a_head_that_was_changed_or_is_not_listed_is_refused(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest = verify_bundle(trained[1])
    assert [head.classes for head in read_heads(trained[1], manifest)] == [tuple(COLOURS)]
    path = trained[1] / "labels.npz"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + b"x")
        with pytest.raises(BundleError, match=r"labels\.npz.*changed"):
            verify_bundle(trained[1])
        path.write_bytes(b"nothing")
        with pytest.raises(BundleError, match="cannot be read"):
            read_heads(trained[1], manifest)
    finally:
        path.write_bytes(content)
