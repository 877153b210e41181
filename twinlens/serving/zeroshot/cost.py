"""The cost of classes, estimated before they are embedded: tokens x what a token takes here.

A request whose prompts cannot be done in its time would run into its deadline, answer nothing and
slow all others meanwhile. What must stay true: it is refused before that work, or as soon as the
speed is known; prompts that the cache holds cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from twinlens.errors import OverloadedError, TooLargeError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.engine.text_load import TextLoad

_STAND_IN = "x"  # in a template, in the place of its class: no tokenizer takes an empty text
_MARKS = 3  # begin, end and the stand-in, which would be counted beside the class's own


class Budget:
    """The tokens that one request has still to run, promised to it for as long."""

    def __init__(self, load: TextLoad, tokens: int) -> None:
        self._load = load
        self.tokens = 0
        self.change(tokens)

    def change(self, tokens: int) -> None:
        """Count tokens in, or out with a minus."""
        self.tokens += tokens
        self._load.promised += tokens

    def spend(self, tokens: int, call: Call) -> None:
        """Count tokens as run, and give up where the rest cannot be run in time."""
        self.change(-tokens)
        _check(self._load.seconds_for(self.tokens), call)


@contextmanager
def plan(model: ServedModel, tokens: int, call: Call) -> Iterator[Budget]:
    """Promise a request the time that its tokens take, or refuse it."""
    load = model.text_load
    _check(load.seconds_for(tokens), call)
    ahead = load.seconds_for(load.promised)
    if tokens and ahead + load.seconds_for(tokens) > call.remaining:
        raise OverloadedError(
            "the classes of other requests take the time that these would need; try again later, "
            "or store them with PUT /classifiers/NAME",
            retry_after=ahead,
        )
    budget = Budget(load, tokens)
    try:
        yield budget
    finally:
        budget.change(-budget.tokens)


async def count_tokens(
    model: ServedModel, classes: Sequence[str], templates: Sequence[str]
) -> NDArray[np.int64]:
    """Return about how many tokens the prompts of each class have that have to be run."""
    words = await model.count_tokens([*classes, *(t.replace("{}", _STAND_IN) for t in templates)])
    each = np.add.outer(words[: len(classes)], words[len(classes) :]) - _MARKS
    for row, name in enumerate(classes):
        for column, template in enumerate(templates):
            if model.is_known(template.replace("{}", name)):
                each[row, column] = 0
    return np.asarray(np.clip(each, 0, model.context).sum(axis=1), dtype=np.int64)


def _check(seconds: float, call: Call) -> None:
    if seconds > call.remaining:
        raise TooLargeError(
            f"these classes and templates take about {seconds:.0f} s here, and the request has "
            f"{call.remaining:.0f} s: store them with PUT /classifiers/NAME "
            '("background": true) and name that',
            field="classes",
            code="too_costly",
        )
