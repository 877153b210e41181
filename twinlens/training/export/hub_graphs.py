"""Traces a transformers model without ONNX files into the file layout of hubs.

Pulling then continues as for any ready model: the graphs are fitted, and the golden vectors are
computed with the traced files. What must stay true: weights are read from safetensors only, no code
of a repository runs, and the outputs are compared with transformers' before anything is kept.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twinlens.bundle.manifest import Manifest
from twinlens.bundle.pull.bundle_cache import open_repositories, write_bundle_of
from twinlens.bundle.pull.options import PullOptions
from twinlens.bundle.pull.repository import FolderRepository, Repository
from twinlens.bundle.pull.source import Source
from twinlens.errors import InputError

_OPSET = 17
_JSON_FILES = (".json", ".txt", ".model", ".md")
_LENGTH = 8  # token length of the texts used for tracing; other lengths work too


class TracedRepository(FolderRepository):
    """A repository's files, with locally traced graphs beside them."""

    def __init__(self, folder: Path, origin: Repository) -> None:
        super().__init__(folder)
        self.source = origin.source
        self.revision = origin.revision
        self.licence = origin.licence
        self.card = origin.card


def export_from_weights(source: Source, out: Path, name: str, *, force: bool) -> Manifest:
    """Write the bundle of a transformers model, whose weights lie on a hub or in a folder."""
    (origin,) = open_repositories(source)
    with tempfile.TemporaryDirectory(prefix="twinlens-") as folder:
        traced = trace_repository(origin, Path(folder))
        return write_bundle_of([traced], out, PullOptions(name=name, verify=True), force=force)


def trace_repository(origin: Repository, folder: Path) -> Repository:
    """Return `origin` with ONNX graphs of its weights; new files are written to `folder`."""
    weights = [path for path in origin.files if path.endswith(".safetensors")]
    if not weights or "config.json" not in origin.files:
        raise InputError(
            f"{origin.source} cannot be traced: it holds no config.json with .safetensors beside it"
        )
    small = [path for path in origin.files if path.endswith(_JSON_FILES)]
    wanted = [*small, *weights]
    given = origin.fetch(wanted)
    for path in wanted:  # the weights too: the outputs are compared with theirs
        _link(given / path, folder / path)
    with _quietly():
        model = _load(origin, given)
        _trace(model, folder / "onnx")
    _state_scores(model, folder / "config.json")
    return TracedRepository(folder, origin)


def _state_scores(model: Any, config: Path) -> None:
    """Add the trained scale and bias to the configuration, where a pull of graphs reads them."""
    scale, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    if scale is None:
        return
    stated = json.loads(config.read_text(encoding="utf-8"))
    stated["logit_scale"] = float(scale.detach().exp())
    if bias is not None:
        stated["logit_bias"] = float(bias.detach())
    config.unlink()  # a hard link to the fetched file, which must not change
    config.write_text(json.dumps(stated), encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _load(origin: Repository, folder: Path) -> Any:
    """Return the model in evaluation mode, in fp32, with traceable attention."""
    import transformers

    try:
        return transformers.AutoModel.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation="eager",
        ).eval()
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{origin.source} cannot be read by transformers {transformers.__version__}: {reason}"
        ) from None


def _trace(model: Any, folder: Path) -> None:
    """Write one graph for each tower, under the names that hubs give them."""
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "vision_model") and hasattr(model, "text_model"):
        ids = torch.full((2, _text_length(model)), _end_token(model), dtype=torch.int64)
        _write(model, _look(model), _draw_pixels(model.config.vision_config), "pixel_values",
               folder / "vision_model.onnx", ["image_embeds", "last_hidden_state"])  # fmt: skip
        _write(model, _read(model), ids, "input_ids",
               folder / "text_model.onnx", ["text_embeds", "last_hidden_state"])  # fmt: skip
    elif model.main_input_name == "pixel_values":
        _write(model, _call(model), _draw_pixels(model.config), "pixel_values",
               folder / "model.onnx", ["last_hidden_state", "pooler_output"])  # fmt: skip
    else:
        ids = torch.ones((2, _LENGTH), dtype=torch.int64)
        _write(model, _call(model, masked=True), (ids, torch.ones_like(ids)),
               ("input_ids", "attention_mask"), folder / "model.onnx",
               ["last_hidden_state"])  # fmt: skip


def _look(model: Any) -> Callable[..., Any]:
    """Return the image tower: its embeddings, and the hidden states behind them."""

    def look(pixels: Tensor) -> tuple[Tensor, Tensor]:
        out = model.vision_model(pixels)
        project = getattr(model, "visual_projection", None)
        rows = out.pooler_output if project is None else project(out.pooler_output)
        return rows, out.last_hidden_state

    return look


def _read(model: Any) -> Callable[..., Any]:
    """Return the text tower, which needs no mask: it is causal, or reads its padding."""

    def read(ids: Tensor) -> tuple[Tensor, Tensor]:
        out = model.text_model(ids)
        project = getattr(model, "text_projection", None)
        rows = out.pooler_output if project is None else project(out.pooler_output)
        return rows, out.last_hidden_state

    return read


def _call(model: Any, *, masked: bool = False) -> Callable[..., Any]:
    """Return a model of one tower."""

    def call(*inputs: Tensor) -> Any:
        out = model(inputs[0], attention_mask=inputs[1]) if masked else model(inputs[0])
        pooled = getattr(out, "pooler_output", None)
        if masked or pooled is None:
            return out.last_hidden_state
        return out.last_hidden_state, pooled

    return call


class _Function(nn.Module):
    """A function as a module; `owner` holds its weights."""

    def __init__(self, function: Callable[..., Any], owner: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.owner = owner

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def _write(
    model: Any,
    function: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    names: str | Sequence[str],
    path: Path,
    outputs: Sequence[str],
) -> None:
    """Trace `function` with dynamic batch and text lengths."""
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    called = (names,) if isinstance(names, str) else tuple(names)
    with torch.no_grad():
        answered = function(*given)
    count = len(answered) if isinstance(answered, tuple) else 1
    axes = {
        name: {0: "batch", 1: "length"} if value.ndim == 2 else {0: "batch"}
        for name, value in zip(called, given, strict=True)
    }
    torch.onnx.export(
        _Function(function, model).eval(),
        given,
        str(path),
        input_names=list(called),
        output_names=list(outputs[:count]),
        dynamic_axes=axes,
        opset_version=_OPSET,
        dynamo=False,
    )


def _draw_pixels(config: Any) -> Tensor:
    side = config.image_size
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return torch.rand((2, 3, height, width), generator=torch.Generator().manual_seed(0))


def _text_length(model: Any) -> int:
    """Return the length of texts; SigLIP reads its padding, so it is traced at the full context."""
    longest = int(model.config.text_config.max_position_embeddings)
    return longest if model.config.model_type.startswith("siglip") else min(_LENGTH, longest)


def _end_token(model: Any) -> int:
    end = getattr(model.config.text_config, "eos_token_id", None)
    return end if isinstance(end, int) else 1


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Suppress warnings of tracing and of transformers, which the user cannot act on."""
    import transformers

    before = transformers.logging.get_verbosity()
    has_bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    onnx_log = logging.getLogger("torch.onnx")
    level = onnx_log.level
    onnx_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(before)
        if has_bars:
            transformers.logging.enable_progress_bar()
        onnx_log.setLevel(level)
