"""clip-retrieval's client: one file of its package, loaded without the rest of it."""

from __future__ import annotations

import importlib.util
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

from calls import check, run_calls

HEART = Path(__file__).resolve().parent.parent / "examples" / "heart.png"


def load() -> ModuleType:
    """Return the module; its package would import what it indexes with."""
    path = distribution("clip-retrieval").locate_file("clip_retrieval/clip_client.py")
    spec = importlib.util.spec_from_file_location("clip_client", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def query_text(url: str) -> None:
    """A text."""
    client = load().ClipClient(url=f"{url}/knn-service", indice_name="examples", num_images=3)
    told = client.query(text="a red heart")
    check("heart" in str(told[0]["id"]), told)


def query_image(url: str) -> None:
    """A file, and a row."""
    client = load().ClipClient(url=f"{url}/knn-service", indice_name="examples", num_images=3)
    told = client.query(image=str(HEART))
    check("heart" in str(told[0]["id"]), told)
    check(len(client.query(embedding_input=[1.0] * 256)) >= 1)


if __name__ == "__main__":
    run_calls("clip_client", {"query, text": query_text, "query, image and row": query_image})
