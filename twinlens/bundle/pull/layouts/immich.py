"""immich-app: `visual/model.onnx` and `textual/model.onnx`, exported from open_clip.

`visual/preprocess_cfg.json` and `config.json` are open_clip's. The graphs take one item at a time.
"""

from __future__ import annotations

from twinlens.bundle.pull.layouts.found import Found, TowerFiles, describe_tower
from twinlens.bundle.pull.repository import Repository

NAME = "immich"
LOOKED_FOR = "visual/model.onnx, textual/model.onnx"


def find(repository: Repository) -> Found | None:
    """Return the towers in the two folders."""
    towers = [_find_tower(repository, folder) for folder in ("visual", "textual")]
    return Found(NAME, *towers) if any(towers) else None


def _find_tower(repository: Repository, folder: str) -> TowerFiles | None:
    places = {"fp32": f"{folder}/model.onnx", "fp16": f"{folder}/fp16/model.onnx"}
    graphs = {precision: path for precision, path in places.items() if path in repository.files}
    return describe_tower(repository, graphs) if graphs else None
