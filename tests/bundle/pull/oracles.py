"""Repositories as hubs have them, of random weights, with the answers that transformers gives.

Needs torch, transformers and open_clip; nothing of Twinlens is used, so that the answers are
independent of what is judged by them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import transformers as hf
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

TEXTS = (
    "a photo of a cat",
    "Two dogs; one isn't barking!",
    "naïve café — ü",
    "x",
    "the quick brown fox jumps over the lazy dog " * 20,
)
Rows = NDArray[np.float32]


@dataclass
class Oracle:
    """A repository's folder and what its model answers."""

    folder: Path
    pictures: list[Path]
    images: Rows | None = None
    texts: Rows | None = None
    given: tuple[str, ...] = TEXTS
    scale: float = 0.0
    bias: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)
    model: Any = None  # of transformers, for who wants its weights beside


def draw_pictures(folder: Path) -> list[Path]:
    """Write pictures whose sizes leave every remainder at a crop."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for i, (width, height) in enumerate([(200, 131), (90, 160), (64, 64), (333, 147), (255, 258)]):
        y, x = np.mgrid[0:height, 0:width]
        levels = [127 + 120 * np.sin(x / (5 + i)), 255 * y / height, (x * (i + 3) + y) % 256]
        array = np.stack(levels, -1).astype(np.uint8)
        array[height // 4 : height // 2, width // 3 : width // 2] = rng.integers(0, 255, 3)
        paths.append(folder / f"{i}.png")
        Image.fromarray(array).save(paths[-1])
    return paths


def unit(rows: Tensor) -> Rows:
    """Return rows of unit length."""
    exact = rows.detach().double()
    return np.asarray((exact / exact.norm(dim=-1, keepdim=True)).float().numpy(), np.float32)


class Call(nn.Module):
    """A function of tensors as a module; `owner` holds its weights."""

    def __init__(self, function: Callable[..., Any], owner: nn.Module) -> None:
        super().__init__()
        self.function, self.owner = function, owner

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def export(
    function: Callable[..., Any],
    owner: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    names: Sequence[str],
    outputs: Sequence[str],
    *,
    free: bool = True,
) -> None:
    """Trace `function` as hub exporters do; `free` leaves batch and length open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {
        name: {0: "batch", **({1: "length"} if value.ndim == 2 else {})}
        for name, value in zip(names, inputs, strict=True)
    }
    torch.onnx.export(
        Call(function, owner).eval(),
        inputs,
        str(path),
        input_names=list(names),
        output_names=list(outputs),
        dynamic_axes=axes if free else None,
        opset_version=17,
        dynamo=False,
    )


def build_clip_tokenizer(folder: Path, length: int = 77, **more: Any) -> Any:
    """Return CLIP's tokenizer from the vocabulary that open_clip ships."""
    content = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(content.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    letters = [chr(b) for b in visible] + [chr(256 + i) for i in range(len(hidden))]
    pieces = letters + [letter + "</w>" for letter in letters]
    pieces += ["".join(line.split()) for line in merges] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return hf.CLIPTokenizerFast(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=length,
        **more,
    )


def open_pictures(paths: Sequence[Path]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in paths]


def see(processor: Any, pictures: Sequence[Path]) -> Tensor:
    """Return the pixels that a processor of transformers makes."""
    pixels: Tensor = processor(open_pictures(pictures), return_tensors="pt")["pixel_values"]
    return pixels


SMALL_CLIP: dict[str, Any] = {
    "text_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                    "num_attention_heads": 2, "projection_dim": 24},
    "vision_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                      "num_attention_heads": 2, "image_size": 64, "patch_size": 16,
                      "projection_dim": 24},
    "projection_dim": 24,
}  # fmt: skip


def make_clip(
    folder: Path, config: dict[str, Any] | None = None, *, fused: bool = False,
    masked: bool = True, projected: bool = True, **processor_options: Any,
) -> Oracle:  # fmt: skip
    """Write a CLIP in the layout of onnx-community: two graphs, or one with logits."""
    torch.manual_seed(7)
    config = config or SMALL_CLIP
    ends = {"eos_token_id": 49407, "bos_token_id": 49406, "pad_token_id": 49407}
    full = hf.CLIPConfig(**{**config, "text_config": config.get("text_config", {}) | ends})
    model = hf.CLIPModel(full).eval()
    model.set_attn_implementation("eager")
    model.logit_scale.data.fill_(3.3)
    side = full.vision_config.image_size
    processor = hf.CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **processor_options
    )
    tokenizer = build_clip_tokenizer(folder / "vocabulary")
    pictures = draw_pictures(folder / "pictures")
    pixels = see(processor, pictures)
    encoded = tokenizer(list(TEXTS), padding=True, truncation=True, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    place = folder / "repository"

    def look(pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        out = model.vision_model(pixel_values)
        rows = model.visual_projection(out.pooler_output) if projected else out.pooler_output
        return rows, out.last_hidden_state

    def read(input_ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        out = model.text_model(input_ids, attention_mask)
        rows = model.text_projection(out.pooler_output) if projected else out.pooler_output
        return rows, out.last_hidden_state

    def both(input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor) -> tuple[Any, ...]:
        out = model(input_ids, pixel_values, attention_mask)
        return out.logits_per_image, out.logits_per_text, out.text_embeds, out.image_embeds

    if fused:
        export(
            both, model, (ids, pixels, mask), place / "onnx/model.onnx",
            ["input_ids", "pixel_values", "attention_mask"],
            ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"],
        )  # fmt: skip
    else:
        rows = "embeds" if projected else "pooler_output"
        names = [f"{part}_embeds" if projected else rows for part in ("image", "text")]
        export(look, model, (pixels,), place / "onnx/vision_model.onnx", ["pixel_values"],
               [names[0], "last_hidden_state"])  # fmt: skip
        inputs = (ids, mask) if masked else (ids,)
        export(read, model, inputs, place / "onnx/text_model.onnx",
               ["input_ids", "attention_mask"][: len(inputs)],
               [names[1], "last_hidden_state"])  # fmt: skip
    if not projected:
        model.save_pretrained(place)
    for part in (full, processor, tokenizer):
        part.save_pretrained(place)
    with torch.no_grad():
        texts = [tokenizer([t], truncation=True, return_tensors="pt") for t in TEXTS]
        found = [model.get_text_features(**text) for text in texts]
        images = model.get_image_features(pixels)
    return Oracle(
        place,
        pictures,
        unit(_rows(images)),
        unit(torch.cat([_rows(row) for row in found])),
        scale=float(model.logit_scale.exp()),
        model=model,
    )


def _rows(answer: Any) -> Tensor:
    """Return the rows of an answer, which later versions of transformers wrap."""
    rows: Tensor = answer if isinstance(answer, Tensor) else answer.pooler_output
    return rows


SMALL_SIGLIP: dict[str, Any] = {
    "text_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                    "num_attention_heads": 2, "projection_size": 16},
    "vision_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                      "num_attention_heads": 2, "image_size": 64, "patch_size": 16},
}  # fmt: skip


def make_siglip(
    folder: Path, config: dict[str, Any] | None = None, *, second: bool = False, fused: bool = False
) -> Oracle:
    """Write a SigLIP, or a SigLIP 2 with a tokenizer of Gemma's kind; texts are padded to 64."""
    torch.manual_seed(7)
    config = config or SMALL_SIGLIP
    if second:
        tokenizer = build_gemma_tokenizer()
        ends = {"vocab_size": len(tokenizer), "pad_token_id": 0}
    else:
        tokenizer = build_clip_tokenizer(folder / "vocabulary", 64, pad_token="!")
        ends = {"vocab_size": 49408, "pad_token_id": 0}
    ends |= {"max_position_embeddings": 64}
    full = hf.SiglipConfig(**{**config, "text_config": config.get("text_config", {}) | ends})
    model = hf.SiglipModel(full).eval()
    model.set_attn_implementation("eager")
    model.logit_scale.data.fill_(4.7)
    model.logit_bias.data.fill_(-16.5)
    side = full.vision_config.image_size
    processor = hf.SiglipImageProcessor(size={"height": side, "width": side}, resample=2)
    pictures = draw_pictures(folder / "pictures")
    pixels = see(processor, pictures)
    ids = tokenizer(
        list(TEXTS), padding="max_length", truncation=True, max_length=64, return_tensors="pt"
    )["input_ids"]
    place = folder / "repository"

    def look(pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        out = model.vision_model(pixel_values)
        return out.last_hidden_state, out.pooler_output

    def read(input_ids: Tensor) -> tuple[Tensor, Tensor]:
        out = model.text_model(input_ids)
        return out.last_hidden_state, out.pooler_output

    def both(input_ids: Tensor, pixel_values: Tensor) -> tuple[Any, ...]:
        out = model(input_ids, pixel_values)
        return out.logits_per_image, out.logits_per_text, out.text_embeds, out.image_embeds

    if fused:
        export(both, model, (ids, pixels), place / "onnx/model.onnx",
               ["input_ids", "pixel_values"],
               ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"])  # fmt: skip
    else:
        outputs = ["last_hidden_state", "pooler_output"]
        export(look, model, (pixels,), place / "onnx/vision_model.onnx", ["pixel_values"], outputs)
        export(read, model, (ids,), place / "onnx/text_model.onnx", ["input_ids"], outputs)
    for part in (full, processor, tokenizer):
        part.save_pretrained(place)
    if second:  # published files say Gemma, whose tokenizer keeps the case
        said = json.loads((place / "tokenizer_config.json").read_text())
        said["tokenizer_class"] = "GemmaTokenizer"
        (place / "tokenizer_config.json").write_text(json.dumps(said))
        written = json.loads((place / "tokenizer.json").read_text())
        written["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        (place / "tokenizer.json").write_text(json.dumps(written))
    with torch.no_grad():
        images, texts = look(pixels)[1], read(ids)[1]
    return Oracle(
        place, pictures, unit(images), unit(texts), model=model,
        scale=float(model.logit_scale.exp()), bias=float(model.logit_bias),
    )  # fmt: skip


def build_gemma_tokenizer() -> Any:
    """Return a tokenizer as SigLIP 2 has it: lower case, byte fallback, an end of text."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces += [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += ["▁", *map(chr, range(33, 127)), "do", "dog", "th", "the", "ca", "cat", "▁a"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [("d", "o"), ("do", "g"), ("t", "h"), ("th", "e"), ("c", "a"), ("ca", "t"), ("▁", "a")]
    tokenizer = hf.Siglip2Tokenizer(
        vocab=vocabulary, merges=merges, model_max_length=64, padding_side="right"
    )
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    return tokenizer


def make_image_tower(folder: Path, kind: str, config: dict[str, Any] | None = None) -> Oracle:
    """Write DINOv2, DINOv3, ViT or ConvNeXt: one graph with the last states and the pooled row."""
    torch.manual_seed(7)
    model, processor = _build_image_tower(kind, config or {})
    model = model.eval()
    if kind != "convnext":
        model.set_attn_implementation("eager")
    pictures = draw_pictures(folder / "pictures")
    pixels = see(processor, pictures)
    place = folder / "repository"

    def look(pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        out = model(pixel_values)
        return out.last_hidden_state, out.pooler_output

    export(look, model, (pixels,), place / "onnx/model.onnx", ["pixel_values"],
           ["last_hidden_state", "pooler_output"])  # fmt: skip
    model.config.save_pretrained(place)
    processor.save_pretrained(place)
    with torch.no_grad():
        states, pooled = look(pixels)
    return Oracle(place, pictures, unit(states[:, 0] if kind == "vit" else pooled), model=model)


def _build_image_tower(kind: str, config: dict[str, Any]) -> tuple[Any, Any]:
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, **config}
    if kind == "dinov2":
        sizes = {"image_size": 56, "patch_size": 14} | small
        model = hf.Dinov2Model(hf.Dinov2Config(**sizes))
        side = min(
            model.config.image_size, 224
        )  # published ones see less than they were trained on
        levels = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
        return model, hf.BitImageProcessor(
            size={"shortest_edge": side * 8 // 7},
            crop_size={"height": side, "width": side},
            **levels,
        )
    if kind == "dinov3":
        sizes = {"image_size": 64, "patch_size": 16, "intermediate_size": 64} | small
        side = sizes["image_size"]
        processor = hf.DINOv3ViTImageProcessor(size={"height": side, "width": side})
        return hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**sizes)), processor
    if kind == "vit":
        sizes = {"image_size": 64, "patch_size": 16, "intermediate_size": 64} | small
        return hf.ViTModel(hf.ViTConfig(**sizes)), hf.ViTImageProcessor(
            size={"height": 64, "width": 64}
        )
    sizes = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], **config}
    processor = hf.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)
    return hf.ConvNextModel(hf.ConvNextConfig(**sizes)), processor


def make_open_clip(folder: Path) -> Oracle:
    """Write an open_clip in immich's layout: a batch of one, int32 tokens."""
    torch.manual_seed(7)
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16,
                       "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2,
                     "layers": 2},
    }  # fmt: skip
    model = open_clip.CLIP(**config).eval()
    prepare = open_clip.image_transform(64, is_train=False)
    pictures = draw_pictures(folder / "pictures")
    pixels = torch.stack([prepare(picture) for picture in open_pictures(pictures)])
    ids = open_clip.tokenize(list(TEXTS))
    place = folder / "repository"
    torch.backends.mha.set_fastpath_enabled(False)

    def read(text: Tensor) -> Tensor:
        rows: Tensor = model.encode_text(text, normalize=True)
        return rows

    export(lambda image: model.encode_image(image, normalize=True), model, (pixels[:1],),
           place / "visual/model.onnx", ["image"], ["embedding"], free=False)  # fmt: skip
    export(read, model, (ids[:1].int(),), place / "textual/model.onnx", ["text"], ["embedding"],
           free=False)  # fmt: skip
    (place / "config.json").write_text(json.dumps(config))
    prepared = {
        "size": [64, 64], "mode": "RGB", "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD), "interpolation": "bicubic",
        "resize_mode": "shortest", "fill_color": 0,
    }  # fmt: skip
    (place / "visual/preprocess_cfg.json").write_text(json.dumps(prepared))
    build_clip_tokenizer(folder / "vocabulary").save_pretrained(place / "textual")
    with torch.no_grad():
        images, texts = model.encode_image(pixels), model.encode_text(ids)
    return Oracle(place, pictures, unit(images), unit(texts), scale=float(model.logit_scale.exp()))


def make_sentence_model(
    folder: Path,
    *,
    pooling: str = "mean",
    dense: bool = False,
    config: dict[str, Any] | None = None,
) -> Oracle:
    """Write a BERT as sentence-transformers does: pooling, perhaps a dense layer, prompts."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    torch.manual_seed(7)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(chr, range(33, 127))]
    words += ["##" + chr(code) for code in range(97, 123)] + ["query", "dog", "cat", "the"]
    core = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=512,
    )  # fmt: skip
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 64, "max_position_embeddings": 512}  # fmt: skip
    model = hf.BertModel(hf.BertConfig(vocab_size=len(words), **(sizes | (config or {})))).eval()
    model.set_attn_implementation("eager")
    place = folder / "repository"
    names = ["input_ids", "attention_mask", "token_type_ids"]

    def read(input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        out = model(input_ids, attention_mask, token_type_ids)
        states: Tensor = out.last_hidden_state
        return states

    sample = tokenizer(list(TEXTS[:3]), padding=True, return_tensors="pt")
    inputs = (sample["input_ids"], sample["attention_mask"], torch.zeros_like(sample["input_ids"]))
    export(read, model, inputs, place / "onnx/model.onnx", names, ["last_hidden_state"])
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    modules = ["Transformer", "Pooling", *(["Dense"] if dense else []), "Normalize"]
    listed = [
        {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{name}",
         "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(modules)
    ]  # fmt: skip
    (place / "modules.json").write_text(json.dumps(listed))
    (place / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    (place / "1_Pooling").mkdir()
    modes = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "last": "lasttoken"}
    flags = {f"pooling_mode_{mode}": name == pooling for name, mode in modes.items()}
    (place / "1_Pooling/config.json").write_text(json.dumps(flags))
    prompts = {"prompts": {"query": "query: ", "passage": ""}, "default_prompt_name": None}
    (place / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    layer = nn.Linear(32, 12)
    if dense:
        (place / "2_Dense").mkdir()
        weights = {f"linear.{k}": v.detach().contiguous() for k, v in layer.named_parameters()}
        save_file(weights, place / "2_Dense/model.safetensors")
        about = {"in_features": 32, "out_features": 12, "bias": True,
                 "activation_function": "torch.nn.modules.activation.Tanh"}  # fmt: skip
        (place / "2_Dense/config.json").write_text(json.dumps(about))

    def embed(texts: Sequence[str]) -> Rows:
        rows = []
        for text in texts:
            encoded = tokenizer([text], truncation=True, max_length=128, return_tensors="pt")
            ids = encoded["input_ids"]
            with torch.no_grad():
                states = read(ids, encoded["attention_mask"], torch.zeros_like(ids))[0]
                pooled = {"cls": states[0], "mean": states.mean(0), "max": states.amax(0),
                          "last": states[-1]}[pooling]  # fmt: skip
                rows.append(torch.tanh(layer(pooled)) if dense else pooled)
        return unit(torch.stack(rows))

    oracle = Oracle(place, [], None, embed(TEXTS))
    oracle.notes["queries"] = embed([f"query: {text}" for text in TEXTS])
    return oracle
