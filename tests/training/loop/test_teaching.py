"""Teachers answer once, to the very views that the student sees; nothing is computed twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.family import small_config, teachers_of, with_settings, write_images
from tests.training.loop.test_resume import Died, assert_same_bytes, last_tensors
from twinlens.bundle.encoder import open_bundle
from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.training.config import Config
from twinlens.training.evaluation.embeddings import RunEmbedder
from twinlens.training.loop import row_store, teaching
from twinlens.training.loop.loop import train
from twinlens.training.loop.opening import open_session
from twinlens.training.loop.session import Session
from twinlens.training.loop.teaching import FOLDER, TOKENS, name_pass, show
from twinlens.training.nn.teachers import divergence, fit_grid, join_rows, mean_probabilities
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.run import open_run
from twinlens.training.runs.starting import apply_pairs
from twinlens.training.runs.teachers import open_teacher
from twinlens.training.seeds import row_seeds
from twinlens.training.views.crops import Crops
from twinlens.training.views.draws import RowDraws
from twinlens.training.views.maker import ViewMaker
from twinlens.training.views.pictures import Pictures, lay_out


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / FOLDER


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_images(tmp_path / "data", 20))


class DiesEmbedding(Silent):
    """A display that ends the run once so many answers are kept."""

    def __init__(self, answers: int) -> None:
        self.answers = answers

    def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
        if what == "embedding" and done >= self.answers:
            raise Died


class Calls:
    """Counts the pictures that a teacher is shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown = 0
        real = teaching.show

        def counted(pictures: Pictures, *rest: Any) -> torch.Tensor:
            self.shown += len(pictures)
            return real(pictures, *rest)

        monkeypatch.setattr(teaching, "show", counted)


def some_pictures(n: int) -> Pictures:
    draws = np.random.default_rng(1)
    sizes = [(20 + 3 * i, 40 - i) for i in range(n)]
    return lay_out([draws.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes])


def test_a_picture_gets_the_same_view_in_any_batch() -> None:
    crops, seeds = Crops(1), row_seeds(0, 2, [5, 6, 7, 8])
    maker = ViewMaker({"global": crops}, 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    pictures = some_pictures(4)
    together = maker(pictures, RowDraws(seeds))["global"]
    for place in range(4):
        alone = Pictures(pictures.canvas[place : place + 1], pictures.sizes[place : place + 1])
        view = maker(alone, RowDraws([seeds[place]]))["global"]
        torch.testing.assert_close(view[0], together[place])
    assert not torch.equal(
        together[0], maker(pictures, RowDraws(row_seeds(0, 3, [5] * 4)))["global"][0]
    )


def test_row_draws_are_uniform_and_do_not_follow_each_other() -> None:
    drawn = RowDraws(list(range(4000))).rand(4000, 5)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert abs(float(drawn.mean()) - 0.5) < 0.01 and abs(float(drawn.var()) - 1 / 12) < 0.003
    assert torch.corrcoef(drawn.T).fill_diagonal_(0).abs().max() < 0.06
    assert torch.corrcoef(torch.stack([drawn[1:, 0], drawn[:-1, 0]]))[0, 1].abs() < 0.06


def test_the_student_sees_the_crop_that_the_teacher_answered_to(data: str, tmp_path: Path) -> None:
    """The teacher's own answer to the student's view, at one size for both, is the kept one."""
    config = with_settings(small_config("distill", encoder="resnet-tiny"), image_size=48)
    session = open_session(config, data, tmp_path / "run", Silent())
    builtin = open_bundle("builtin", engine="onnxruntime")
    mean, std = (
        torch.tensor(row)[:, None, None] for row in (config.settings.mean, config.settings.std)
    )
    per_epoch = session.per_epoch
    seen = []
    for step in (0, per_epoch):  # one view of each picture, then the other
        batch = session.feeder.batch(step)
        pixels = (batch.views["global"][:, 0] * std + mean) * 255
        pixels = pixels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        answers = torch.from_numpy(builtin.encode_pixels(pixels.numpy()))
        kept = batch.extra["teacher"]
        assert torch.cosine_similarity(answers, kept).min() > 0.9999
        assert torch.cosine_similarity(answers, kept.roll(1, 0)).max() < 0.9999
        seen.append(pixels)
    session.close()
    assert not torch.equal(*seen)


def test_an_interrupted_pass_goes_on_where_it_stopped(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_store, "IMAGES", 5)
    config = small_config("distill", encoder="resnet-tiny", log_every=1)
    whole = Calls(monkeypatch)
    train(config, data, tmp_path / "whole")
    assert whole.shown == 40  # 20 pictures in two views
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "other"))
    first, rest = Calls(monkeypatch), None
    with pytest.raises(Died):
        train(config, data, tmp_path / "cut", DiesEmbedding(15))
    assert first.shown == 15
    rest = Calls(monkeypatch)
    train(config, data, tmp_path / "cut")
    assert rest.shown == 25
    assert_same_bytes(tmp_path / "whole", tmp_path / "cut")


def test_another_student_reads_the_answers_and_another_view_or_teacher_does_not(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    config = small_config("distill", encoder="resnet-tiny")
    calls = Calls(monkeypatch)
    train(config, data, tmp_path / "a")
    train(with_settings(config, seed=4, batch=4, lr=0.01), data, tmp_path / "b")
    assert calls.shown == 40 and len(list(cache.iterdir())) == 1
    session = open_session(config, data, tmp_path / "a", Silent())
    source = session.feeder.store.source
    session.close()
    changes = ["teachers.seed=1", "crops.scale_min=0.9", "teachers.views=3"]
    names = {name_pass(apply_pairs(config, [pair]), source) for pair in changes}
    names.add(name_pass(small_config("distill-tokens"), source))
    assert len(names | {name_pass(config, source)}) == 5


def test_patch_tokens_are_those_of_the_run_that_teaches(data: str, tmp_path: Path) -> None:
    config = small_config("distill-tokens")
    session: Session = open_session(config, data, tmp_path / "run", Silent())
    batch = session.feeder.batch(0)
    session.close()
    embedder = RunEmbedder(open_teacher(config.objective.teachers.sources))
    prepared = session.feeder._prepare(0)
    assert prepared.pictures is not None
    seeds = row_seeds(0, 0, prepared.draft.records)
    pixels = show(prepared.pictures, config.objective.crops, seeds, 16)
    torch.testing.assert_close(
        batch.extra[TOKENS], embedder.patches(pixels.numpy()), atol=4e-3, rtol=2e-3
    )
    assert batch.extra[TOKENS].shape == (8, 16, 64)


def test_texts_of_the_batch_have_the_answers_to_their_own_captions(
    data: str, tmp_path: Path
) -> None:
    config = small_config("mobileclip", encoder="resnet-tiny")
    session = open_session(config, data, tmp_path / "run", Silent())
    batch = session.feeder.batch(0)
    positions = session.feeder.order.positions(0)
    records = [session.feeder.store.source.records[place] for place in positions]
    session.close()
    rows = open_bundle("builtin", engine="onnxruntime").embed_texts(
        [record.captions[0] for record in records]
    )
    assert np.abs(rows - batch.extra["teacher_text"].numpy()).max() < 1e-3


def test_several_teachers_stand_side_by_side(data: str, tmp_path: Path) -> None:
    run = teachers_of("tokens").sources
    pairs = [f"teachers=builtin,{run}", "encoder=vit-nano/4", "image_size=16", "batch=8", "steps=2"]
    config = apply_pairs(open_recipe("distill", "default"), [*pairs, "device=cpu"])
    assert config.objective.teachers.dims == (256, 64)
    train(config, data, tmp_path / "run")
    served = open_run(tmp_path / "run").towers["image"](torch.zeros(1, 3, 16, 16))
    assert served.shape == (1, 320)
    parts = [torch.randn(3, 4), torch.randn(3, 2)]
    joined = join_rows(parts)
    torch.testing.assert_close(joined.norm(dim=1), torch.ones(3))
    mean = sum(torch.cosine_similarity(part[:1], part) for part in parts) / 2
    torch.testing.assert_close(torch.cosine_similarity(joined[:1], joined), mean)


def test_a_student_of_a_bundle_learns_its_space(data: str, tmp_path: Path) -> None:
    """Distilled for a few steps, it is nearer to its teacher than a new one is."""
    losses = []
    for steps in (1, 60):
        config = with_settings(
            small_config("distill", encoder="resnet-tiny"), steps=steps, optimizer="adamw", lr=3e-3
        )
        losses.append(train(config, data, tmp_path / str(steps)).loss)
    assert losses[1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("method", "pairs", "error", "message"),
    [
        ("distill", [], InputError, "none is given; --set teachers=BUNDLE"),
        ("distill", ["teachers=nothing"], NotFoundError, "neither a bundle nor a training run"),
        ("simclr", ["teachers=builtin"], InputError, "simclr has no teachers"),
        (
            "distill",
            ["teachers=builtin", "token_weight=1", "encoder=vit-nano/4"],
            InputError,
            "bundles hold embeddings alone",
        ),
        ("distill", ["teachers=TOKENS", "token_weight=1"], InputError, "encoder has no patches"),
        ("mobileclip", ["teachers=TOKENS"], InputError, "has no text tower"),
    ],
)
def test_a_wrong_teacher_is_refused_before_data_are_read(
    method: str, pairs: list[str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    named = [pair.replace("TOKENS", teachers_of("tokens").sources) for pair in pairs]
    with pytest.raises(error, match=message):
        config = apply_pairs(open_recipe(method, "default"), [*named, "device=cpu"])
        train(config, str(tmp_path / "no-data"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_changed_is_told(data: str, tmp_path: Path) -> None:
    config: Config = small_config("distill", encoder="resnet-tiny")
    changed = apply_pairs(config, ["teachers.revisions=0123"])
    with pytest.raises(ConflictError, match="has changed since"):
        train(changed, data, tmp_path / "run")


def test_a_run_goes_on_without_its_teacher_once_that_has_answered(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("distill", encoder="resnet-tiny", save_every=1)
    train(config, data, tmp_path / "run")
    monkeypatch.setattr(teaching, "open_bundle", lambda source, **_: pytest.fail("opened again"))
    longer = with_settings(config, steps=6)
    train(longer, data, tmp_path / "longer")
    assert last_tensors(tmp_path / "longer").keys() == last_tensors(tmp_path / "run").keys()


def test_the_divergence_is_zero_where_probabilities_agree_and_grids_are_resized() -> None:
    x, y = torch.randn(4, 5), torch.randn(4, 5)
    probabilities = mean_probabilities([(x, y)], [3.0])
    assert float(divergence(probabilities, 3.0 * x @ y.mT)) == pytest.approx(0.0, abs=1e-6)
    tokens = torch.arange(16.0).view(1, 4, 4)[..., None].reshape(1, 16, 1)
    small = fit_grid(tokens, 4)
    assert small.shape == (1, 4, 1) and float(small.mean()) == pytest.approx(7.5)
    assert fit_grid(tokens, 16) is tokens
