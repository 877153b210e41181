"""Point a program written for OpenAI's or infinity's embeddings here: only the address changes.

    python examples/replace_base_url.py [http://localhost:8000]

Needs a running server (`twinlens serve`) and `pip install openai`.
"""

import base64
import sys
from pathlib import Path

import httpx
from openai import OpenAI

server = (sys.argv[1:] or ["http://localhost:8000"])[0]

# A program for OpenAI: texts in, vectors out. The key is whatever the server was started with.
client = OpenAI(base_url=f"{server}/v1", api_key="none")
answer = client.embeddings.create(model="builtin", input=["a red heart", "a sun"])
heart, sun = (row.embedding for row in answer.data)

# A program for infinity: images as data URIs with a modality.
encoded = base64.b64encode((Path(__file__).parent / "heart.png").read_bytes()).decode()
request = {"model": "builtin", "modality": "image", "input": [f"data:image/png;base64,{encoded}"]}
picture = httpx.post(f"{server}/v1/embeddings", json=request).json()["data"][0]["embedding"]


def cosine(one: list[float], other: list[float]) -> float:
    """Return the cosine of two unit vectors."""
    return sum(a * b for a, b in zip(one, other, strict=True))


print(f"the picture of a heart and 'a red heart': {cosine(picture, heart):.2f}")
print(f"the picture of a heart and 'a sun': {cosine(picture, sun):.2f}")
