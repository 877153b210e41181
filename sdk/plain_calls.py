"""Plain HTTP, for clients that are no Python packages: immich, and paths without a client."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from calls import check, run_calls

HEART = Path(__file__).resolve().parent.parent / "examples" / "heart.png"
NAME = "ViT-B-32__openai"


def entries(side: str) -> str:
    """Return what immich's server sends for a photo or a search."""
    options = {"modelName": NAME} | ({"options": {"language": "en"}} if side == "textual" else {})
    return json.dumps({"clip": {side: options}})


def immich_photo(url: str) -> None:
    """A photo and a search for it, in rows of the width that its database keeps."""
    check(httpx.get(f"{url}/ping").text == "pong")
    photo = {"entries": (None, entries("visual")), "image": ("blob", HEART.read_bytes())}
    text = {"entries": (None, entries("textual")), "text": (None, "a red heart")}
    other = {"entries": (None, entries("textual")), "text": (None, "a green tree")}
    told = [httpx.post(f"{url}/predict", files=form).json() for form in (photo, text, other)]
    rows = [json.loads(one["clip"]) for one in told]
    check([len(row) for row in rows] == [512] * 3)
    check(told[0]["imageHeight"] > 0 and told[0]["imageWidth"] > 0)
    cosines = [sum(a * b for a, b in zip(rows[0], row, strict=True)) for row in rows[1:]]
    check(cosines[0] > cosines[1], cosines)


def immich_faces(url: str) -> None:
    """Faces are refused in words."""
    form = {
        "entries": (None, json.dumps({"facial-recognition": {"detection": {"modelName": "x"}}})),
        "image": ("blob", HEART.read_bytes()),
    }
    told = httpx.post(f"{url}/predict", files=form)
    check(told.status_code == 400 and "faces" in told.text, told.text)


def tei_paths(url: str) -> None:
    """TEI's paths as its documentation asks them with curl."""
    check(len(httpx.post(f"{url}/embed", json={"inputs": "a cat"}).json()[0]) == 256)
    body = {"query": "a red heart", "texts": ["the sun", "a red heart"], "raw_scores": False}
    check(httpx.post(f"{url}/rerank", json=body).json()[0]["index"] == 1)
    check(httpx.get(f"{url}/info").json()["model_id"] == "builtin")
    check(httpx.get(f"{url}/health").status_code == 200)
    pairs = {"inputs": [["a cat", "a cat"]]}
    check(httpx.post(f"{url}/predict", json=pairs).json()[0][0]["score"] > 0.99)


def indices(url: str) -> None:
    """clip-retrieval's list."""
    check(httpx.get(f"{url}/indices-list").json() == ["examples"])


if __name__ == "__main__":
    run_calls(
        "plain HTTP",
        {
            "immich: ping, photo, search": immich_photo,
            "immich: faces": immich_faces,
            "TEI: embed, rerank, info, health, predict": tei_paths,
            "clip-retrieval: indices-list": indices,
        },
    )
