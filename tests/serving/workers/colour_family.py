"""`python -m tests.serving.workers.colour_family WORKERS PORT [NAME=VALUE ...]`: serves colours.

Its encoder process ends itself on a picture of one colour, and takes its time on another one.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.serving.conftest import FakeEncoder
from twinlens.bundle.arrays import Pixels
from twinlens.serving.files import own_folder
from twinlens.serving.keys import parse_keys
from twinlens.serving.launch import ListenAddress, ServedBundle, bind_port
from twinlens.serving.observe.logs import configure_logs
from twinlens.serving.settings import ServerSettings, override
from twinlens.serving.workers.family_launch import FamilyPlan, run_family

DEADLY = (1, 2, 3)
SLOW = (3, 2, 1)
SLOW_SECONDS = 0.3


class MortalEncoder(FakeEncoder):
    """Ends its process when it sees a deadly picture."""

    def encode_pixels(self, pixels: Pixels | Sequence[Pixels]) -> NDArray[np.float32]:
        means = [tuple(np.round(one.reshape(-1, 3).mean(0)).astype(int)) for one in pixels]
        if SLOW in means:
            time.sleep(SLOW_SECONDS)
        if DEADLY in means:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_pixels(np.asarray(pixels))


class ColourOpeners:
    """Opens colours; a source of one letter is what its revision is made of."""

    devices: Sequence[str] = ("cpu",)

    def open_whole(self, source: str, precision: str, device: str) -> MortalEncoder:
        return MortalEncoder(_revision(source))

    def open_outer(self, source: str, precision: str, told: Mapping[str, Any]) -> FakeEncoder:
        return FakeEncoder(told["revision"])


def _revision(source: str) -> str:
    name = Path(source).name
    return (name if name in ("b", "c", "d") else "a") * 64


@contextmanager
def _follow_nothing() -> Iterator[Callable[[], None]]:
    yield lambda: None


def main() -> None:
    workers, port, *options = sys.argv[1:]
    data = os.environ.get("COLOURS_DATA")
    bundles = os.environ.get("COLOURS_BUNDLES")
    settings = ServerSettings(
        data=Path(data) if data else None,
        bundles=Path(bundles) if bundles else None,
        keys=parse_keys(os.environ.get("COLOURS_KEYS", "")),
    )
    for option in options:
        name, _, value = option.partition("=")
        settings = override(settings, name, value)
    configure_logs(settings.log_format, requests=settings.log_requests)
    openers = ColourOpeners()
    bundle = ServedBundle("colours", FakeEncoder().manifest, "FakeExecutionProvider")
    with own_folder(settings.data), bind_port("127.0.0.1", int(port)) as listener:
        plan = FamilyPlan(
            settings,
            openers,
            ListenAddress("127.0.0.1", int(port)),
            int(workers),
            {"colours": "colours"},
            {},
            lambda: None,
            _follow_nothing,
            {"colours": bundle},
        )
        run_family(plan, listener)


if __name__ == "__main__":
    main()
