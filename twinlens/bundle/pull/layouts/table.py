"""The known layouts, and the error for a repository with none of them.

What must stay true: a refusal names what was found, what was looked for and what to do next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twinlens.bundle.pull.layouts import (
    hub_onnx,
    image_only,
    immich,
    pairs,
    sentence_transformers,
)
from twinlens.bundle.pull.layouts.found import Found, TowerFiles, describe_tower
from twinlens.bundle.pull.repository import Repository
from twinlens.errors import BundleError, InputError

LAYOUTS: Final = (immich, hub_onnx, image_only, sentence_transformers)

# Repositories without a graph, and where the same weights lie as graphs.
TWINS: Final = {
    "openai/clip-vit-base-patch32": "Xenova/clip-vit-base-patch32",
    "openai/clip-vit-base-patch16": "Xenova/clip-vit-base-patch16",
    "openai/clip-vit-large-patch14": "Xenova/clip-vit-large-patch14",
    "google/siglip-base-patch16-224": "Xenova/siglip-base-patch16-224",
    "google/siglip2-base-patch16-224": "onnx-community/siglip2-base-patch16-224-ONNX",
    "facebook/dinov2-small": "onnx-community/dinov2-small",
    "facebook/dinov2-base": "onnx-community/dinov2-base",
    "apple/MobileCLIP-S0": "Xenova/mobileclip_s0",
    "apple/MobileCLIP-S2": "Xenova/mobileclip_s2",
}
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SHOWN = 8  # files named in a refusal


def find_model(
    repositories: Sequence[Repository], image_file: str = "", text_file: str = ""
) -> Found:
    """Return the model in one repository, or in two with a tower each."""
    if len(repositories) == 1:
        (repository,) = repositories
        if image_file or text_file:
            return _take_named(repository, repository, image_file, text_file)
        return _find_one(repository)
    if len(repositories) != 2:
        raise InputError(
            f"{len(repositories)} repositories were given; a model lies in one, or in two with a "
            "tower each"
        )
    if image_file and text_file:
        return _take_named(repositories[0], repositories[1], image_file, text_file)
    return pairs.join(*(_find_one(repository) for repository in repositories))


def _find_one(repository: Repository) -> Found:
    for layout in LAYOUTS:
        find: Callable[[Repository], Found | None] = layout.find
        found = find(repository)
        if found is not None:
            return found
    raise BundleError(_explain(repository), code="not_found")


def _take_named(first: Repository, second: Repository, image_file: str, text_file: str) -> Found:
    """Return the towers whose files the user named."""
    towers: list[TowerFiles | None] = []
    for repository, path in ((first, image_file), (second, text_file)):
        if path and path not in repository.files:
            raise InputError(f"{repository.source} holds no {path!r}; {_list_files(repository)}")
        towers.append(describe_tower(repository, {"fp32": path}) if path else None)
    return Found("by hand", *towers)


def _explain(repository: Repository) -> str:
    """Return why nothing in the repository can be pulled, and what to do."""
    graphs = [path for path in repository.files if path.endswith(".onnx")]
    if graphs:
        looked_for = "; ".join(f"{layout.NAME}: {layout.LOOKED_FOR}" for layout in LAYOUTS)
        return (
            f"{repository.source} has no layout that is known here. Found: {_join(graphs)}. "
            f"Looked for: {looked_for}. Name the parts by hand with --image-file and --text-file"
        )
    name = repository.source.removeprefix("hf:").partition("@")[0]
    twin = TWINS.get(name)
    tail = f"the same model as ONNX files: hf:{twin}" if twin else (
        "look for the same model under onnx-community or Xenova"
    )  # fmt: skip
    pickles = [path for path in repository.files if path.endswith(_PICKLES)]
    what = f"only pickles ({_join(pickles)}), which are never opened" if (
        pickles and not any(path.endswith(".safetensors") for path in repository.files)
    ) else f"no ONNX file; {_list_files(repository)}"  # fmt: skip
    return (
        f"{repository.source} holds {what}. `twinlens export {repository.source} -o OUT` traces it "
        f"with torch and transformers (pip install 'twinlens[cpu,train]' transformers); {tail}"
    )


def _list_files(repository: Repository) -> str:
    return f"it holds {_join(list(repository.files))}" if repository.files else "it is empty"


def _join(paths: Sequence[str]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
