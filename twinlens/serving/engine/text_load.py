"""How long texts take by their tokens, as seen of late, and how much work is promised already.

What must stay true: nothing is learnt from small batches, whose fixed cost would make large work
look several times as long as it is; and what is not known yet refuses nobody.
"""

from __future__ import annotations

_LEAST_TOKENS = 512  # of a batch that tells how fast tokens are
_WEIGHT = 0.2


class TextLoad:
    """The text tower's speed, and the tokens that it has still to run for work under way."""

    def __init__(self) -> None:
        self._token_seconds: float | None = None
        self.promised = 0  # tokens

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from a batch; `tokens` are counted with the padding."""
        if tokens < _LEAST_TOKENS:
            return
        seen = seconds / tokens
        known = self._token_seconds
        self._token_seconds = seen if known is None else known + _WEIGHT * (seen - known)

    def seconds_for(self, tokens: int) -> float:
        """Return how long so many tokens will take; 0 while nothing is known."""
        return tokens * (self._token_seconds or 0.0)
