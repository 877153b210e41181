"""Names of models, their weights, and what the user is told where a name or a file does not do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from twinlens.bundle.store import hash_file
from twinlens.errors import InputError
from twinlens.training.export import SourceOptions, hub, load_source
from twinlens.training.export.sources import list_kinds
from twinlens.training.export.sources import open_clip as source
from twinlens.training.export.text_specs import choose_tokenizer, find_pad_id

if TYPE_CHECKING:
    from tests.training.export.conftest import Exported

RANDOM = SourceOptions(random_weights=True)
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a network, as far as the export can tell."""
    monkeypatch.setattr(hub, "is_reachable", lambda address: False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a small architecture that open_clip knows while the test runs."""
    path = tmp_path_factory.mktemp("configs") / "tiny-clip.json"
    path.write_text(json.dumps(TINY))
    open_clip.add_model_config(path)
    yield "tiny-clip"
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
    open_clip.factory._MODEL_CONFIGS.pop("tiny-clip")


def module_of(name: str, options: SourceOptions = RANDOM) -> Any:
    image = load_source(name, options).image
    assert image is not None
    return image.module


def test_an_unknown_kind_is_refused_with_those_that_exist() -> None:
    assert {"open_clip", "timm"} <= set(list_kinds())
    with pytest.raises(InputError, match=r"source 'clip/ViT' .* open_clip:\.\.\.") as caught:
        load_source("clip/ViT", RANDOM)
    assert caught.value.field == "source"


@pytest.mark.parametrize(
    ("name", "guess"),
    [("open_clip:ViT-B-3", "did you mean ViT-B-32"), ("timm:resnet500", "did you mean resnet50")],
)
def test_a_misspelt_model_gets_a_suggestion(name: str, guess: str) -> None:
    with pytest.raises(InputError, match=guess):
        load_source(name, RANDOM)


def test_a_name_is_split_into_architecture_tag_and_path(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.touch()
    assert source.parse_name("ViT-B-32")[0] == "ViT-B-32"
    assert source.parse_name("ViT-B/32")[0] == "ViT-B-32"
    assert source.parse_name("ViT-B/32/openai")[1].tag == "openai"
    assert source.parse_name(f"ViT-B-32/{file}")[1].path == file
    with pytest.raises(InputError, match=r"'nowhere.pt' is neither a file nor a tag.*openai"):
        source.parse_name("ViT-B-32/nowhere.pt")


def test_a_name_without_weights_says_the_three_ways_to_give_them() -> None:
    with pytest.raises(InputError, match=r"ViT-B-32/openai.*/path/to/weights.*--random-weights"):
        load_source("open_clip:ViT-B-32", SourceOptions())


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("name", ["open_clip:RN50/yfcc15m", "timm:resnet10t.c3_in1k"])
def test_without_the_hub_the_error_comes_within_seconds_and_says_what_to_pass(name: str) -> None:
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"cannot be reached; download .*/path/to/file.*random"):
        load_source(name, SourceOptions())
    assert time.monotonic() - begun < 20  # the hub's own client takes over a minute


@pytest.mark.usefixtures("no_hub")
def test_without_the_hub_a_foreign_tokenizer_is_asked_for_by_option() -> None:
    config = {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP"}
    with pytest.raises(InputError, match=r"timm/ViT-B-16-SigLIP.*--tokenizer FILE"):
        choose_tokenizer(config, 64, None, "ViT-B-16-SigLIP")


def test_a_failed_download_gives_its_reason_and_leaves_the_hub_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    def fail() -> NoReturn:
        raise OSError("disk full\nmore")

    monkeypatch.setattr(hub, "is_reachable", lambda address: True)
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(InputError, match="the file cannot be fetched: disk full; do this"):
        hub.fetch("the file", "do this", fail)
    assert before == constants.HF_HUB_OFFLINE


def test_random_weights_follow_the_seed_and_leave_the_callers_generator_alone(tiny: str) -> None:
    state = torch.random.get_rng_state()
    first, again = (module_of(f"open_clip:{tiny}") for _ in range(2))
    other = module_of(f"open_clip:{tiny}", SourceOptions(random_weights=True, seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    x = torch.zeros(1, 3, 32, 32)
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_local_file_gives_its_weights_and_its_hash(
    tiny: str, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    weights = module_of(f"open_clip:{tiny}").model.state_dict()
    if suffix == ".pt":
        # The usual wrapping of a training checkpoint.
        torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}}, path)
    else:
        save_file({k: v.contiguous() for k, v in weights.items()}, path)
    described = load_source(f"open_clip:{tiny}/{path}", SourceOptions(seed=5))
    assert described.image is not None
    found: Any = described.image.module
    assert torch.equal(found.model.visual.proj, weights["visual.proj"])
    assert described.provenance["checkpoint"] == {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": hash_file(path),
    }
    assert described.provenance["random_weights"] is False


def write_folder(folder: Path) -> Path:
    """Write a folder that open_clip reads: a configuration, without weights."""
    config = {"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5] * 3, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def test_a_local_folder_gives_model_weights_and_preprocessing(tiny: str, tmp_path: Path) -> None:
    weights = module_of(f"open_clip:{tiny}").model.state_dict()
    path = write_folder(tmp_path) / "open_clip_model.safetensors"
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    described = load_source(f"open_clip:local-dir:{tmp_path}", SourceOptions(seed=5))
    assert described.image is not None
    found: Any = described.image.module
    assert torch.equal(found.model.visual.proj, weights["visual.proj"])
    assert (described.image.spec.resize, described.image.spec.mean) == ("squash", (0.5,) * 3)
    assert described.provenance["checkpoint"]["sha256"] == hash_file(path)
    assert str(tmp_path.parent) not in str(described.provenance)


def test_a_local_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not be loaded"):
        load_source(f"open_clip:local-dir:{write_folder(tmp_path)}", SourceOptions())


def test_weights_of_another_model_are_refused_by_name(tiny: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"visual.proj": torch.zeros(3, 3), "logit_scale": torch.zeros(())}, path)
    with pytest.raises(InputError, match=rf"other.safetensors' do not fit {tiny}: .*Missing key"):
        load_source(f"open_clip:{tiny}/{path}", SourceOptions())
    with pytest.raises(
        InputError, match=r"'other.safetensors' do not fit test_vit: it lacks \d+ weights"
    ):
        load_source(f"timm:test_vit/{path}", SourceOptions())


class Trap:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("name", ["open_clip:tiny-clip", "timm:test_vit"])
def test_a_checkpoint_that_would_run_code_is_refused_unrun(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"x": Trap()}}, tmp_path / "hostile.pt")
    with pytest.raises(InputError, match=r"hostile.pt.* do not fit"):
        load_source(f"{name}/{tmp_path}/hostile.pt", SourceOptions())
    assert not (tmp_path / "sprung").exists()


def test_a_timm_file_gives_its_weights_without_the_classifier(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    model: Any = timm.create_model("test_vit")
    save_file(model.state_dict(), path)
    found = module_of(f"timm:test_vit/{path}", SourceOptions())
    assert torch.equal(found.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)
    assert isinstance(found.head, torch.nn.Identity)


def test_timms_evaluation_transform_becomes_the_spec() -> None:
    image = load_source("timm:test_vit", RANDOM).image
    assert image is not None
    spec, config = image.spec, dict[str, Any](timm.create_model("test_vit").pretrained_cfg)  # type: ignore[arg-type]
    assert (spec.height, spec.width, spec.resize) == (160, 160, "shortest")
    assert spec.resize_to == int(160 / config["crop_pct"])
    assert (spec.mean, spec.std) == (tuple(config["mean"]), tuple(config["std"]))
    assert spec.convert == "before_resize"


def test_siglip_is_padded_scored_by_sigmoid_and_says_why(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    described = source_family(request, "siglip", tmp_path)
    assert described.similarity.kind == "sigmoid"
    assert described.similarity.bias == pytest.approx(-10)
    assert described.text.spec.clean == "canonicalize"
    assert "bidirectional" in described.text.padding_reason


def source_family(request: pytest.FixtureRequest, family: str, folder: Path) -> Any:
    families = request.getfixturevalue("families")
    return families[family](folder)


def test_a_sigmoid_scale_and_bias_reach_the_manifest(exported: Exported) -> None:
    given, written = exported.description.similarity, exported.manifest.similarity
    assert (written.kind, written.scale, written.bias) == (given.kind, given.scale, given.bias)


@pytest.mark.parametrize(
    ("model", "beside", "expected"),
    [("ViT-B-16-SigLIP", None, 1), ("ViT-B-16-SigLIP2", None, 0), ("other", "<unk>", 2)],
)
def test_the_padding_id_is_what_the_model_was_trained_with(
    tmp_path: Path, model: str, beside: str | None, expected: int
) -> None:
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    if beside:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": beside}))
    assert find_pad_id(tmp_path / "tokenizer.json", model) == expected
    tokenizer.enable_padding(pad_id=2, pad_token="<unk>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert find_pad_id(tmp_path / "tokenizer.json", model) == 2
