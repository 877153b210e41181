"""A bare encode loop in a process of its own: what the encoder does with no server around it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Self

import orjson

_LOOP = """
import base64, os, sys, time
import numpy as np, orjson
from twinlens import open_bundle
encoder = open_bundle(sys.argv[1], threads=1)
encoder.warm_up()
for line in sys.stdin.buffer:
    asked = orjson.loads(line)
    images = [base64.b64decode(text) for text in asked.get("images", ())]
    texts, done, began = asked.get("texts", []), 0, time.process_time()
    while time.process_time() - began < asked["seconds"]:
        if images:
            for start in range(0, len(images), 8):
                batch = [encoder.preprocess(image) for image in images[start : start + 8]]
                encoder.encode_pixels(np.stack(batch))
        else:
            encoder.encode_tokens(encoder.tokenize(texts))
        done += len(images) or len(texts)
    print(done / (time.process_time() - began), flush=True)
"""


class BareLoop:
    """Preprocesses and encodes in batches of eight, as the server does, and nothing else."""

    def __init__(self, bundle: str, *, cpus: set[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP, bundle],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )

    def images(self, images: list[bytes], seconds: float) -> float:
        """Return images a CPU second."""
        import base64

        return self._ask({"images": [base64.b64encode(i).decode() for i in images]}, seconds)

    def texts(self, texts: list[str], seconds: float) -> float:
        """Return texts a CPU second."""
        return self._ask({"texts": texts}, seconds)

    def _ask(self, work: dict[str, list[str]], seconds: float) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps({**work, "seconds": seconds}) + b"\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()
