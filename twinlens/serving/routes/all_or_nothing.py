"""Requests that succeed or fail as a whole, as clients of OpenAI's API and its kin expect.

Nothing in their answers has room for an error beside the good ones, so the first bad item is the
request's error, named as the client named it.
"""

from __future__ import annotations

from collections.abc import Sequence

from twinlens.errors import TwinlensError
from twinlens.serving.call import Call
from twinlens.serving.contracts import Rows
from twinlens.serving.embedding import embed_items
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.requests.answers import stack
from twinlens.serving.requests.items import InputItem
from twinlens.serving.service import Service, first_failure


async def embed_whole(
    service: Service,
    model: ServedModel,
    items: Sequence[InputItem],
    names: Sequence[str],
    call: Call,
) -> tuple[Rows, int]:
    """Return a row for each item and the tokens of all; one that fails fails all, by its name."""
    embedded = await embed_items(model, items, call, service.fetcher)
    failed = first_failure(embedded.answers)
    if failed is None:
        return stack(embedded.answers, model.encoder.embedding_dim), embedded.tokens
    service.count_failures(model, embedded.answers)
    index, error = failed
    if isinstance(error, TwinlensError):
        error.field = names[index]
    raise error
