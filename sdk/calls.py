"""What each client's file runs by: its calls, one after another, each told as a line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

Call = Callable[[str], object]  # takes the server's address, raises where the call does not work


def run_calls(client: str, calls: dict[str, Call]) -> None:
    """Run each call against the address that the command line names."""
    url = sys.argv[1]
    for name, call in calls.items():
        said = ""
        try:
            call(url)
        except Exception as error:  # whatever a client raises is what is to be told
            said = f"{type(error).__name__}: {error}"[:300]
        print(json.dumps({"client": client, "call": name, "works": not said, "said": said}))


def check(holds: bool, what: object = "") -> None:
    """Raise unless a statement holds."""
    if not holds:
        raise ValueError(f"not as expected: {what}")
