"""One message of a library is dropped while its code runs, and no other."""

from __future__ import annotations

import logging

import pytest

from twinlens.training.export.log_filter import drop_log_message


def test_only_the_named_message_is_dropped_and_only_inside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = logging.getLogger()
    with drop_log_message("known advice"):
        root.warning("some known advice for %s", "you")
        root.warning("something else")
    root.warning("known advice")
    assert caplog.messages == ["something else", "known advice"]


def test_the_filter_is_removed_when_the_code_fails() -> None:
    before = list(logging.getLogger().filters)
    with pytest.raises(ValueError), drop_log_message("known advice"):
        raise ValueError
    assert logging.getLogger().filters == before
