"""The names under which `twinlens serve` loads bundles."""

from __future__ import annotations

import pytest

from twinlens.cli.serving.bundle_names import read_bundles
from twinlens.errors import InputError


def test_a_shipped_bundle_is_loaded_under_a_name_that_requests_can_give() -> None:
    assert read_bundles([]) == {"builtin": "builtin"}
    assert read_bundles(["builtin:photographs", "builtin"]) == {
        "photographs": "builtin:photographs",
        "builtin": "builtin",
    }
    assert read_bundles(["mine=builtin:drawings"]) == {"mine": "builtin:drawings"}


def test_two_bundles_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two bundles are called 'builtin'"):
        read_bundles(["builtin", "builtin"])
