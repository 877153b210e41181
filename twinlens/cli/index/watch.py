"""`twinlens index watch`: a collection that follows a folder."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from twinlens.cli.index.building import bundle_for, ensure_collection, fill_collection
from twinlens.cli.index.options import Frames, MaxDelete, OptionalBundle
from twinlens.cli.options import (
    DeviceOption,
    Engines,
    Exif,
    Json,
    Place,
    PrecisionOption,
    Threads,
    open_encoder,
)
from twinlens.cli.terminal import print_note

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder
    from twinlens.index.ingest.builder import BuildOptions
    from twinlens.index.ingest.intake import IndexingProgress
    from twinlens.index.ingest.live_folder import LiveFolder


def watch(
    root: Annotated[Path, typer.Argument(help="Folder of images to watch.", metavar="FOLDER")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the collection.", metavar="DIR")
    ],
    bundle: OptionalBundle = None,
    poll: Annotated[
        bool,
        typer.Option(
            "--poll", help="Compare files every 2 s; for folders that another machine writes."
        ),
    ] = False,
    quiet: Annotated[
        float, typer.Option(help="Seconds without a change before changes are applied.", min=0.05)
    ] = 0.5,
    max_delete: MaxDelete = None,
    exif: Exif = None,
    place: Place = True,
    frames: Frames = "2",
    batch: Annotated[int, typer.Option(help="Images per batch of the encoder.", min=1)] = 32,
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    engine: Engines = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Index a folder, then watch it for added, changed, moved and removed images, until Ctrl-C.

    [bold]Example:[/] twinlens index watch photos/ -o photos.index
    """
    from twinlens.bundle.image.video import parse_sampling
    from twinlens.index.ingest.builder import BuildOptions
    from twinlens.index.ingest.live_folder import LiveFolder, follow
    from twinlens.index.maintenance import IndexPlan

    live = LiveFolder(root, poll, quiet)
    live.check()
    encoder = open_encoder(bundle_for(out, bundle), precision, device, threads, engine)
    ensure_collection(out, encoder)
    options = BuildOptions(
        batch, max_delete=max_delete, exif=exif, place=place, frames=parse_sampling(frames)
    )
    stop = threading.Event()
    changes = live.watch(stop)
    next(changes)  # the watch has begun: no change after this is missed
    fill_collection(out, str(root), live.corpus(), encoder, options, IndexPlan(), None, json)
    with _setting_on_signals(stop):
        print_note(f"watching {root}; Ctrl-C ends it")
        follow(out, live, changes, encoder, options, _teller(json), print_note)


class FolderFollower:
    """Follows a folder in a thread, beside a server; `close` ends it after the current group."""

    def __init__(
        self, place: Path, live: LiveFolder, encoder: Encoder, options: BuildOptions
    ) -> None:
        self._stop = threading.Event()
        self._changes = live.watch(self._stop)
        next(self._changes)  # the watch has begun
        self._thread = threading.Thread(
            target=self._follow, args=(place, live, encoder, options), name="watch", daemon=True
        )

    def start(self) -> None:
        """Begin to apply the changes since the follower was made."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(
        self, place: Path, live: LiveFolder, encoder: Encoder, options: BuildOptions
    ) -> None:
        from twinlens.index.ingest.live_folder import follow

        follow(place, live, self._changes, encoder, options, _teller(False), print_note)


@contextmanager
def _setting_on_signals(stop: threading.Event) -> Iterator[None]:
    """Set an event at SIGINT and SIGTERM, so that the current group is finished first."""
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _teller(json: bool) -> Callable[[IndexingProgress], None]:
    """Return what prints a group of changes: a JSON line, or a note."""

    def tell(progress: IndexingProgress) -> None:
        counts: dict[str, Any] = {
            "embedded": progress.embedded,
            "removed": progress.removed,
            "failed": progress.failed,
        }
        if json:
            typer.echo(orjson.dumps(counts).decode())
            return
        shown = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        print_note(f"{time.strftime('%H:%M:%S')} {shown}")

    return tell
