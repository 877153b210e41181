"""The cost of classes, counted in tokens before they are embedded.

What must stay true: prompts that the cache holds cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.engine.promised_work import Budget, WorkKind, plan

_STAND_IN = "x"  # in a template, in the place of its class: no tokenizer takes an empty text
_MARKS = 3  # begin, end and the stand-in, which the class's own tokens include
_LOOKED_UP = 256  # cache lookups before other requests get a turn

CLASSES = WorkKind(
    "classes and templates",
    'store them with PUT /classifiers/NAME ("background": true) and name that',
    "classes",
)


@contextmanager
def plan_classes(model: ServedModel, tokens: NDArray[np.int64], call: Call) -> Iterator[Budget]:
    """Promise a request the time that its prompts take, or refuse it."""
    total = int(tokens.sum())
    items = int(np.count_nonzero(tokens))
    more = call.cost
    model.weigh(call, items, more + model.token_speed.seconds_for(total))
    with plan(model.promised_work, model.token_speed, total, call, CLASSES, more) as budget:
        assert budget is not None, "one request builds one bank at a time"
        yield budget


async def count_tokens(
    model: ServedModel, classes: Sequence[str], templates: Sequence[str], call: Call
) -> NDArray[np.int64]:
    """Return about how many tokens each prompt has, 0 if it is cached: (classes, templates)."""
    words = await model.count_tokens(
        [*classes, *(t.replace("{}", _STAND_IN) for t in templates)], call
    )
    each = np.add.outer(words[: len(classes)], words[len(classes) :]) - _MARKS
    looked_up, began = 0, call.clock.now()
    for row, name in enumerate(classes):
        for column, template in enumerate(templates):
            if model.is_known(template.replace("{}", name)):
                each[row, column] = 0
        looked_up += len(templates)
        if looked_up >= _LOOKED_UP:
            looked_up = 0
            await model.throttles.give_way(call.priority, call.clock.now() - began)
            began = call.clock.now()
    return np.asarray(np.clip(each, 0, model.context), dtype=np.int64)
