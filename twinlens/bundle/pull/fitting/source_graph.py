"""A graph of a repository on this disk, with the files that hold its weights beside it.

What must stay true: weights are read only from files that the repository lists; a path that leaves
the model's folder is refused before it is opened.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from twinlens.bundle.graph import list_external_files
from twinlens.bundle.pull.fitting.towers import read_model
from twinlens.bundle.pull.repository import Repository
from twinlens.errors import BundleError

_SAMPLE_LENGTH = 8  # tokens for a text tower whose output is not used


@dataclass(frozen=True)
class SourceGraph:
    """The original file; `weights` maps each location in it to a file on this disk."""

    file: str
    path: Path
    weights: dict[str, Path]

    def read(self) -> onnx.ModelProto:
        """Return the graph without loading its external weights."""
        return read_model(self.path)

    def open(self) -> Any:
        """Open the file in ONNX Runtime without graph optimisations."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(
                str(self.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            reason = str(error).strip().splitlines()[0][:300]
            raise BundleError(f"{self.file} does not load in ONNX Runtime: {reason}") from None


def fetch_graph(repository: Repository, file: str, folder: Path) -> SourceGraph:
    """Fetch the graph and its weights into `folder`, under their own names."""
    locations = list_external_files(repository.fetch([file]) / file)
    places = {name: _resolve(repository, file, name) for name in sorted(locations)}
    root = repository.fetch([file, *places.values()])
    folder = folder / hashlib.sha256(repository.source.encode()).hexdigest()[:12]
    path = _link(root / file, folder / file)
    weights = {name: _link(root / place, folder / place) for name, place in places.items()}
    return SourceGraph(file, path, weights)


def list_outputs(model: onnx.ModelProto) -> dict[str, int]:
    """Return the graph's outputs with their ranks, 0 if unknown."""
    return {
        value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.output
    }  # fmt: skip


def fill_inputs(session: Any, names: list[str], size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Return inputs for the tower of a joint graph whose output is not used."""
    feeds = {}
    for value in session.get_inputs():
        if value.name not in names:
            continue
        fixed = [dim if isinstance(dim, int) and dim > 0 else 0 for dim in value.shape]
        usual = (1, 3, *size) if len(fixed) == 4 else (1, _SAMPLE_LENGTH)
        shape = [dim or usual[i] for i, dim in enumerate(fixed)]
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        feeds[value.name] = np.ones(shape, {"float": "float32"}.get(kind, kind))
    return feeds


def _resolve(repository: Repository, file: str, location: str) -> str:
    """Return the path inside the repository of weights that `file` calls `location`."""
    pure = PurePosixPath(location)
    if pure.is_absolute() or ".." in pure.parts or "\\" in location or ":" in location:
        raise BundleError(
            f"{file} reads weights from {location!r}, outside the model's folder; such a file is "
            "not opened"
        )
    path = (PurePosixPath(file).parent / pure).as_posix()
    if path not in repository.files:
        raise BundleError(
            f"{file} reads weights from {path!r}, which {repository.source} does not hold"
        )
    return path


def _link(source: Path, target: Path) -> Path:
    """Hard-link a file, or copy it where the disk has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        try:
            os.link(source.resolve(), target)  # a hub's cache holds links to its files
        except OSError:
            shutil.copyfile(source, target)
    return target
