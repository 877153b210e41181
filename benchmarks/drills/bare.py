"""A bare encode loop in its own process: what the encoder does without a server around it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from typing import Self

import orjson

# Reads lines of JSON; answers each with items per CPU second (with GFLOP/s for "gemm").
_LOOP = """
import base64, sys, time
import numpy as np, orjson
from twinlens import open_bundle
encoder = open_bundle(sys.argv[1], threads=1)
encoder.warm_up()
left, right = np.random.default_rng(0).standard_normal((2, 2048, 2048), dtype=np.float32)
def gemm(asked):
    np.matmul(left, right)
    return 2 * 2048 ** 3 / 1e9
def images(asked):
    for start in range(0, len(asked["items"]), 8):
        pixels = [encoder.preprocess(image) for image in asked["items"][start : start + 8]]
        encoder.encode_pixels(np.stack(pixels))
    return len(asked["items"])
def pixels(asked):
    if "pixels" not in asked:
        asked["pixels"] = np.stack([encoder.preprocess(image) for image in asked["items"][:8]])
    encoder.encode_pixels(asked["pixels"])
    return len(asked["pixels"])
def texts(asked):
    encoder.embed_texts(asked["items"])
    return len(asked["items"])
for line in sys.stdin.buffer:
    asked = orjson.loads(line)
    if asked["work"] in ("images", "pixels"):
        asked["items"] = [base64.b64decode(text) for text in asked["items"]]
    work, done = globals()[asked["work"]], 0
    work(asked)
    began = time.process_time()
    while time.process_time() - began < asked["seconds"]:
        done += work(asked)
    print(done / (time.process_time() - began), flush=True)
"""


class BareLoop:
    """Preprocesses and encodes in batches of eight, as the server does, and nothing else."""

    def __init__(self, bundle: str, *, cpus: set[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP, bundle],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )

    def images(self, images: list[bytes], seconds: float) -> float:
        """Return images per CPU second, decoded and encoded."""
        return self._ask("images", [base64.b64encode(i).decode() for i in images], seconds)

    def pixels(self, images: list[bytes], seconds: float) -> float:
        """Return images per CPU second, encoded only."""
        return self._ask("pixels", [base64.b64encode(i).decode() for i in images], seconds)

    def texts(self, texts: list[str], seconds: float) -> float:
        """Return texts per CPU second."""
        return self._ask("texts", texts, seconds)

    def gemm(self, seconds: float) -> float:
        """Return GFLOP per CPU second of a large float32 matrix product: the core's peak."""
        return self._ask("gemm", [], seconds)

    def _ask(self, work: str, items: list[str], seconds: float) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = orjson.dumps({"work": work, "items": items, "seconds": seconds})
        self._process.stdin.write(asked + b"\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()


def _environment() -> dict[str, str]:
    """Return our environment, with one thread, and without kernel choices for another machine."""
    kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
