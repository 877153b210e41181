"""Requests that succeed or fail as a whole, as clients of OpenAI's API and similar ones expect.

Their answers have no field for errors of single items, so the first failed item fails the request;
the error names the client's own field.
"""

from __future__ import annotations

from collections.abc import Sequence

from twinlens.bundle.arrays import Rows
from twinlens.errors import TwinlensError
from twinlens.serving.call import Call
from twinlens.serving.embedding import embed_items
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.requests.answers import stack
from twinlens.serving.requests.items import InputItem
from twinlens.serving.service import Service, first_failure


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
