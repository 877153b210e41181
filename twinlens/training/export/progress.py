"""How an export reports progress: stages that take time, and notes."""

from __future__ import annotations

import logging
from typing import Protocol

_logger = logging.getLogger("twinlens.export")


class ExportProgress(Protocol):
    """What the export reports to."""

    def stage(self, text: str) -> None:
        """Start a stage that takes time; it lasts until the next one."""
        ...

    def note(self, text: str) -> None:
        """Report a fact to the user."""
        ...


class LoggedProgress:
    """Reports to the log, for programs that call the export directly."""

    def stage(self, text: str) -> None:
        """Log the stage."""
        _logger.info(text)

    def note(self, text: str) -> None:
        """Log the fact."""
        _logger.info(text)
