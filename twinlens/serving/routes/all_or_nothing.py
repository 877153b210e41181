"""Requests that succeed or fail as a whole, as clients of OpenAI's API and similar ones expect.

Their answers have no field for errors of single items, so the first failed item fails the request;
the error names the client's own field.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinlens.bundle.arrays import Rows
from twinlens.errors import TwinlensError
from twinlens.serving.call import Call
from twinlens.serving.embedding import embed_items
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.failures import first_failure
from twinlens.serving.requests.answers import stack
from twinlens.serving.requests.items import InputItem
from twinlens.serving.service import Service

_LEAST = 1e-12  # length of a mean of opposites


async def embed_groups_or_fail(
    service: Service,
    model: ServedModel,
    groups: Sequence[Sequence[InputItem]],
    names: Sequence[str],
    call: Call,
) -> tuple[Rows, int]:
    """Return a row for each group: that of its one item, or the normalised mean of several."""
    items = [item for group in groups for item in group]
    sizes = [len(group) for group in groups]
    named = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    rows, tokens = await embed_all_or_fail(service, model, items, named, call)
    if len(items) == len(groups):
        return rows, tokens
    sums = np.add.reduceat(rows, np.cumsum([0, *sizes[:-1]]), axis=0)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), _LEAST), tokens


async def embed_all_or_fail(
    service: Service,
    model: ServedModel,
    items: Sequence[InputItem],
    names: Sequence[str],
    call: Call,
) -> tuple[Rows, int]:
    """Return a row for each item and their total tokens; raise the first item's error, if any."""
    embedded = await embed_items(model, items, call, service.fetcher)
    failed = first_failure(embedded.answers)
    if failed is None:
        return stack(embedded.answers, model.encoder.embedding_dim), embedded.tokens
    service.count_failures(model, embedded.answers)
    index, error = failed
    if isinstance(error, TwinlensError):
        error.field = names[index]
    raise error
