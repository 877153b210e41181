"""The working folder of a pull, and the notes about it.

What must stay true: weights that two graphs share are in the bundle once.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from twinlens.bundle.pull.fitting.source_graph import SourceGraph


@dataclass
class Workshop:
    """Where a bundle is assembled: its folder, the original files, the notes."""

    bundle: Path
    sources: Path
    notes: list[str] = field(default_factory=list)
    placed: dict[Path, str] = field(default_factory=dict)  # weights in the bundle, by their source

    def place_weights(self, graph: SourceGraph, path: Path) -> dict[str, str]:
        """Copy the weights beside a graph of the bundle; return their new names."""
        names: dict[str, str] = {}
        for location, source in graph.weights.items():
            if source not in self.placed:
                number = f".{len(names)}" if names else ""
                name = path.with_suffix(f"{number}.data").name
                shutil.copyfile(source, self.bundle / name)
                self.placed[source] = name
            names[location] = self.placed[source]
        return names
