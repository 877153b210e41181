"""The check, in a thread, of what no search of a collection has read yet."""

from __future__ import annotations

import logging
import threading

from twinlens.errors import CollectionError
from twinlens.index.snapshot import Snapshot

log = logging.getLogger("twinlens.index")


def check_in_background(snapshot: Snapshot) -> None:
    """Check what no search has read yet: a reader that lives on pays for each block but once."""

    def check() -> None:
        try:
            snapshot.warm()
        except CollectionError as error:
            log.error("%s", error.message)  # a search that reads the damage raises

    threading.Thread(target=check, name="collection-check", daemon=True).start()
