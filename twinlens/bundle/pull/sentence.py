"""The configuration of sentence-transformers: the modules after the tower, and the prompts.

What must stay true: an unknown module is refused by name; a module's weights are read only from
safetensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twinlens.bundle.pull.head import ACTIVATIONS, Dense
from twinlens.bundle.pull.json_files import JsonObject, read_json
from twinlens.bundle.pull.repository import Repository
from twinlens.bundle.pull.tensors import read_tensors
from twinlens.errors import BundleError

_MODES: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
_SHORT: Final = {"cls": "cls", "mean": "mean", "max": "max", "lasttoken": "last"}
# Servers' names for the purpose of a text, and models' names for their prompts.
_PURPOSES: Final = {
    "query": ("query", "search_query", "s2p_query", "Retrieval-query"),
    "document": ("document", "passage", "search_document", "Retrieval-document"),
    "classification": ("classification", "Classification"),
    "clustering": ("clustering", "Clustering"),
}


def read_pooling(config: JsonObject) -> str:
    """Return the pooling in a `1_Pooling/config.json`."""
    if config.get("include_prompt") is False:
        raise BundleError("1_Pooling: include_prompt is false; such pooling cannot be repeated")
    chosen = [mode for key, mode in _MODES.items() if config.get(key)]
    if isinstance(config.get("pooling_mode"), str):
        name = str(config["pooling_mode"])
        chosen = [_SHORT.get(name, name)]
    others = [key for key, on in config.items() if on is True and key.startswith("pooling_mode_")]
    if len(chosen) != 1 or chosen[0] not in _MODES.values() or len(others) > 1:
        named = ", ".join(others or chosen) or "none"
        raise BundleError(
            f"1_Pooling: the pooling is {named}; known: {', '.join(_SHORT)}, one each"
        )
    return chosen[0]


def read_layers(repository: Repository, modules: Sequence[JsonObject]) -> tuple[Dense, ...]:
    """Return the dense layers after the pooling."""
    layers = []
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Dense":
            layers.append(_read_dense(repository, str(module.get("path", ""))))
        elif kind not in ("Transformer", "Pooling", "Normalize"):
            raise BundleError(f"modules.json: the module {kind!r} is unknown here")
    return tuple(layers)


def read_prompts(config: JsonObject) -> dict[str, Any]:
    """Return the extension `prompts`: a prefix for each purpose; empty without any."""
    given: dict[str, str] = config.get("prompts") or {}
    named: dict[str, str] = {}
    for purpose, names in _PURPOSES.items():
        found = next((given[name] for name in names if name in given), None)
        if found is not None:
            named[purpose] = found
    default = given.get(config.get("default_prompt_name") or "", "")
    if not default and not any(named.values()):
        return {}
    return {"required": True, "default": default, "by_purpose": named}


def _read_dense(repository: Repository, folder: str) -> Dense:
    paths = [f"{folder}/config.json", f"{folder}/model.safetensors"]
    missing = [path for path in paths if path not in repository.files]
    if missing:
        raise BundleError(
            f"{repository.source} holds no {missing[0]!r}; the weights of a Dense module are read "
            "from safetensors, never from a pickle"
        )
    root = repository.fetch(paths)
    config = read_json(root / paths[0])
    activation = str(config.get("activation_function", "identity")).rpartition(".")[2].lower()
    if activation not in ACTIVATIONS:
        raise BundleError(f"{paths[0]}: the activation {activation!r} is unknown here")
    found = read_tensors(root / paths[1], ["linear.weight", "linear.bias"])
    if "linear.weight" not in found:
        raise BundleError(f"{paths[1]} holds no 'linear.weight'")
    return Dense(found["linear.weight"], found.get("linear.bias"), activation)
