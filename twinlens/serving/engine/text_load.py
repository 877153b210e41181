"""How long texts take by their tokens, as measured recently, and how much work is promised.

What must stay true: small batches are not measured, since their fixed cost would make large work
look several times as long as it is; one slow batch decides nothing; and before enough batches were
measured every estimate is 0.
"""

from __future__ import annotations

from collections import deque
from statistics import median

_LEAST_TOKENS = 512  # of a batch that is measured
_LEAST_BATCHES = 4  # measured before anything is estimated: the first ones warm up
_RECENT_BATCHES = 16


class TextLoad:
    """The text tower's speed, and the tokens that it has still to run for work under way."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_RECENT_BATCHES)  # seconds per token
        self._token_seconds = 0.0
        self.promised = 0  # tokens

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from a batch; `tokens` are counted with the padding."""
        if tokens < _LEAST_TOKENS:
            return
        self._recent.append(seconds / tokens)
        if len(self._recent) >= _LEAST_BATCHES:
            self._token_seconds = median(self._recent)

    def seconds_for(self, tokens: int) -> float:
        """Return how long so many tokens will take; 0 while nothing is known."""
        return tokens * self._token_seconds
