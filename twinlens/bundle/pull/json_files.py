"""The JSON files of a repository, read alike everywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinlens.errors import BundleError

JsonObject = Mapping[str, Any]


def read_json(path: Path) -> Any:
    """Return the parsed file; raise, naming it, if it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path.name} is not JSON: {error}") from None
