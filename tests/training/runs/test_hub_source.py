"""Runs that start from transformers models, which answer as transformers itself does."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.bundle.pull.hub import serve_hub
from tests.training.family import small_config, with_settings, write_images
from tests.training.runs.test_starting import TEXTS, assert_close, still
from tests.training.test_served import some_images
from twinlens.bundle.encoder import open_bundle
from twinlens.bundle.pull.source import parse_source
from twinlens.errors import InputError, NotFoundError
from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.export import SourceOptions, export_encoder, load_source
from twinlens.training.export.hub_graphs import export_from_weights
from twinlens.training.loop.loop import train
from twinlens.training.runs.assembly import build_network
from twinlens.training.runs.run import open_run
from twinlens.training.runs.starting import start_from

pytest.importorskip("timm")
if importlib.util.find_spec("transformers") is None:
    pytest.skip("the answers come from transformers", allow_module_level=True)

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32}
VISION = {**SMALL, "intermediate_size": 64, "patch_size": 8}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "vocab_size": 97, "eos_token_id": 96}  # fmt: skip
PROCESSORS = {
    "clip": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 33},
             "crop_size": {"height": 32, "width": 32}, "resample": 3},
    "siglip": {"image_processor_type": "SiglipImageProcessor", "resample": 3,
               "size": {"height": 32, "width": 32}},
    "vit": {"image_processor_type": "ViTImageProcessor", "resample": 2,
            "size": {"height": 32, "width": 32}},
    "dinov2": {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 41},
               "crop_size": {"height": 32, "width": 32}, "resample": 3},
}  # fmt: skip


def make(kind: str) -> Any:
    """Return a small model of transformers with random weights, norms and scales too."""
    import transformers as hf

    torch.manual_seed(5)
    models: dict[str, Callable[[], Any]] = {
        "clip": lambda: hf.CLIPModel(
            hf.CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=24)
        ),
        "siglip": lambda: hf.SiglipModel(
            hf.SiglipConfig(
                vision_config=VISION,
                text_config=TEXT | {"projection_size": 32, "max_position_embeddings": 20},
            )
        ),
        "vit": lambda: hf.ViTModel(hf.ViTConfig(**VISION)),
        "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**SMALL, patch_size=8, mlp_ratio=2)),
        "dinov2_with_registers": lambda: hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(**SMALL, patch_size=8, num_register_tokens=2)
        ),
    }
    model: nn.Module = models[kind]().eval()
    with torch.no_grad():
        for own in model.parameters():
            own.add_(torch.randn_like(own) * (0.2 if own.ndim > 1 else 0.3))
    return model


def save(kind: str, folder: Path) -> Any:
    """Write a model as a hub has it: weights, configuration, processor, tokenizer."""
    model = make(kind)
    model.save_pretrained(folder)
    family = "dinov2" if kind.startswith("dinov2") else kind
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[family]))
    if kind in ("clip", "siglip"):
        write_tokenizer(folder)
    return model


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of bytes that begins and ends texts, and pads with the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = [chr(code) for code in range(33, 127)]
    vocabulary = {letter: place + 1 for place, letter in enumerate(letters)} | {"[UNK]": 0}
    vocabulary |= {"<|startoftext|>": 95, "<|endoftext|>": 96}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", 95), ("<|endoftext|>", 96)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    content = {
        "pad_token": "<|endoftext|>",
        "unk_token": "[UNK]",
        "model_max_length": 20,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(content))


def answer(model: Any, kind: str, images: torch.Tensor) -> torch.Tensor:
    """Return what transformers answers to normalised images."""
    if kind in ("clip", "siglip"):
        out = model.vision_model(images).pooler_output
        project = getattr(model, "visual_projection", None)
        rows: torch.Tensor = out if project is None else project(out)
        return rows
    found: torch.Tensor = model(images).last_hidden_state[:, 0]
    return found


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "kind",
    [
        "clip",
        "vit",
        *(pytest.param(name, marks=SLOW) for name in ("siglip", "dinov2", "dinov2_with_registers")),
    ],
)
def test_a_tower_answers_as_transformers_does_and_can_hide_its_patches(
    kind: str, tmp_path: Path
) -> None:
    model = save(kind, tmp_path / "model")
    config = start_from(small_config("simclr"), f"hf:{tmp_path / 'model'}")
    tower = build_network(config)["image"].eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(tower(images), answer(model, kind, images), rtol=1e-4, atol=1e-4)
        assert isinstance(tower, TokenTower)
        assert tower.tokens(images).shape[:2] == (3, 1 + 16)
    assert config.settings.resize_to == {"clip": 33, "vit": 32, "siglip": 32}.get(kind, 41)


@pytest.mark.parametrize("kind", ["clip", pytest.param("siglip", marks=SLOW)])
def test_texts_are_read_as_transformers_reads_them(kind: str, tmp_path: Path) -> None:
    model = save(kind, tmp_path / "model")
    config = start_from(small_config(kind), f"hf:{tmp_path / 'model'}")
    assert (config.settings.pad_id, config.settings.context) == (96, 20)
    net = build_network(config, vocabulary=97).eval()
    tokens = torch.tensor([[95, 5, 9, 96] + [96] * 16, [95, *range(1, 19), 96]])
    with torch.no_grad():
        out = model.text_model(input_ids=tokens).pooler_output
        theirs = model.text_projection(out) if kind == "clip" else out
        torch.testing.assert_close(net["text"](tokens), theirs, rtol=1e-4, atol=1e-4)
        assert float(net["scale"]()) == pytest.approx(float(model.logit_scale))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # tracing warns of every branch
@pytest.mark.parametrize(("kind", "method"), [("clip", "clip"), ("siglip", "siglip"),
                                              ("dinov2", "simclr"), ("vit", "byol")])  # fmt: skip
def test_a_run_that_does_not_move_answers_as_the_sources_own_export_does(
    kind: str, method: str, tmp_path: Path
) -> None:
    save(kind, tmp_path / "model")
    source = parse_source(tmp_path / "model")
    assert source is not None
    export_from_weights(source, tmp_path / "theirs", "", force=False)
    config = still(small_config(method, seed=7), f"hf:{tmp_path / 'model'}")
    train(config, str(write_images(tmp_path / "data", 8)), tmp_path / "run")
    export_encoder(
        load_source(str(tmp_path / "run"), SourceOptions()), tmp_path / "b", precisions=("fp32",)
    )
    ours, theirs = open_bundle(tmp_path / "b"), open_bundle(tmp_path / "theirs")
    assert_close(ours.embed_images(some_images()), theirs.embed_images(some_images()))
    if method in ("clip", "siglip"):
        assert_close(ours.embed_texts(TEXTS), theirs.embed_texts(TEXTS))


@SLOW
def test_a_run_is_opened_when_its_source_is_gone(tmp_path: Path) -> None:
    save("clip", tmp_path / "model")
    config = with_settings(
        start_from(small_config("clip"), f"hf:{tmp_path / 'model'}"), steps=2, lr=1e-3
    )
    train(config, str(write_images(tmp_path / "data", 8)), tmp_path / "run")
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    assert open_run(tmp_path / "run").towers["text"](torch.tensor([[95, 5, 96]])).shape == (1, 24)


@SLOW
def test_a_model_on_a_hub_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save("vit", tmp_path / "repositories" / "owner" / "small-vit")
    with serve_hub(tmp_path / "repositories") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
        config = start_from(small_config("simclr"), "hf:owner/small-vit")
        tower = build_network(config)["image"].eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs = answer(model, "vit", images)
        torch.testing.assert_close(tower(images), theirs, rtol=1e-4, atol=1e-4)
    assert config.settings.encoder == "hf:owner/small-vit"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "swin"}, "is of type 'swin'"),
        ({"hidden_act": "relu"}, "activation 'relu' is unknown"),
        ({"use_swiglu_ffn": True}, "SwiGLU"),
        ({"hidden_size": 64}, "do not fit its config.json"),
    ],
)
def test_a_form_that_is_not_built_alike_is_refused(
    change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    save("dinov2", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=told):
        build_network(start_from(small_config("simclr"), f"hf:{tmp_path / 'model'}"))


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    save("clip", tmp_path / "model")
    source = f"hf:{tmp_path / 'model'}"
    (tmp_path / "model" / "tokenizer.json").unlink()
    start_from(small_config("simclr"), source)
    with pytest.raises(NotFoundError, match=r"has no tokenizer\.json"):
        start_from(small_config("clip"), source)
    config = start_from(small_config("simclr"), source)
    weights = tmp_path / "model" / "model.safetensors"
    kept = {n: v for n, v in load_file(weights).items() if "pre_layrnorm" not in n}
    save_file(kept, weights)
    with pytest.raises(InputError, match="2 are absent"):
        build_network(config)
    weights.unlink()
    with pytest.raises(InputError, match="save_pretrained"):
        build_network(config)
    with pytest.raises(NotFoundError, match="is not a folder"):
        start_from(small_config("simclr"), f"hf:{tmp_path / 'nowhere'}")
