"""Class banks: a unit row for each class, averaged over its prompts and re-normalised.

Prompts go through the text tower's queue like any other text, so its bound, cache and isolation of
bad items apply to them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.bundle.arrays import Row, Rows
from twinlens.bundle.classes import normalise_rows
from twinlens.errors import TooLargeError, TwinlensError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.zeroshot.cost import count_tokens, plan_classes

_NO_CLASS = "something"  # the neutral prompt if no template has words besides its class
_SLICE = 256  # prompts in flight at once: bounded, and enough to fill batches
_SLICE_SECONDS = 0.002  # that the event loop spends on a slice's answers, and on the next slice


@dataclass(frozen=True, eq=False)
class ClassBank:
    """Classes as rows (m, d), and the neutral row (d,) of a prompt without a class."""

    names: tuple[str, ...]
    rows: Rows
    neutral: Row


async def build_bank(
    model: ServedModel,
    classes: Sequence[str],
    templates: Sequence[str],
    call: Call,
) -> ClassBank:
    """Return the bank of `classes`."""
    rows = await embed_in_time(model, classes, templates, call)
    neutral = await embed_neutral(model, templates, call)
    return ClassBank(tuple(classes), rows, neutral)


async def embed_in_time(
    model: ServedModel,
    classes: Sequence[str],
    templates: Sequence[str],
    call: Call,
) -> Rows:
    """Return unit rows (m, d); raise if the work cannot finish before the deadline."""
    per_slice = max(1, _SLICE // len(templates))
    tokens = await count_tokens(model, classes, templates, call)
    rows: list[Rows] = []
    with plan_classes(model, tokens, call) as budget:
        for start in range(0, len(classes), per_slice):
            end = min(start + per_slice, len(classes))
            rows.append(await embed_classes(model, classes[start:end], templates, call))
            budget.spend(int(tokens[start:end].sum()), call)
            await model.throttles.give_way(call.priority, _SLICE_SECONDS)
    return np.concatenate(rows)


async def embed_neutral(model: ServedModel, templates: Sequence[str], call: Call) -> Row:
    """Return the row (d,) of the prompt that names no class."""
    rows = await embed_classes(model, (_NO_CLASS,), name_nothing(templates), call)
    neutral: Row = rows[0]
    return neutral


def name_nothing(templates: Sequence[str]) -> list[str]:
    """Return the templates without their class, e.g. what is left of "a photo of a {}".

    A bare "{}" would leave an empty text, which tokenizers refuse; it is skipped.
    """
    worded = [t for t in templates if t.replace("{}", "").strip()]
    return [t.replace("{}", "") for t in worded] or [_NO_CLASS]


async def embed_classes(
    model: ServedModel, classes: Sequence[str], templates: Sequence[str], call: Call
) -> Rows:
    """Return unit rows (m, d), each the mean over the templates, for a few classes."""
    prompts = [t.replace("{}", name) for name in classes for t in templates]
    rows: list[Row] = []
    for start in range(0, len(prompts), _SLICE):
        embedded = await model.embed_texts(prompts[start : start + _SLICE], call)
        for i, answer in enumerate(embedded.answers, start):
            if isinstance(answer, Exception):
                raise _name_class(answer, i // len(templates))
            rows.append(answer)
    stacked = np.stack(rows).reshape(len(classes), len(templates), -1)
    return normalise_rows(stacked.mean(axis=1))


def check_prompts(classes: int, templates: int, most: int) -> None:
    """Refuse a bank that is too large to be built within a request."""
    if classes * templates > most:
        raise TooLargeError(
            f"{classes} classes x {templates} templates are {classes * templates} prompts; a "
            f"request may build {most}: store them with PUT /classifiers/NAME and name that",
            field="classes",
        )


def _name_class(error: Exception, index: int) -> Exception:
    if isinstance(error, TwinlensError):
        error.field = f"classes[{index}]"
    return error
