"""The answer shape of `/search`, and the parts that other answers share, for OpenAPI."""

from __future__ import annotations

from twinlens.index.ann.recall import MEASURED, NOT_MEASURED, STALE
from twinlens.serving.openapi.schemas import (
    COUNT,
    FLAG,
    NULL,
    NUMBER,
    REVISION,
    STRING,
    Schema,
    array_of,
    closed_object,
    component,
    either,
    means,
    one_of,
)
from twinlens.serving.routes.zeroshot import PROBABILITY

METADATA: Schema = means({"type": "object"}, "The item's fields and values; filters read them")
RECALL: Schema = means(
    {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
    "Share of the 10 best items that a search finds, measured for queries by `image` and by "
    "`text`; null: stale or not measured",
)
RECALL_STATE: Schema = means(
    {"type": "object", "additionalProperties": one_of(MEASURED, STALE, NOT_MEASURED)},
    "State of each recall; stale: many items were deleted since, it is being measured again",
)
_RANK = closed_object(
    ["rank", "score"],
    rank=means(COUNT, "Rank in this list, from 1"),
    score=means(NUMBER, "Cosine, or BM25 for words"),
)
EXPLAIN: Schema = closed_object(
    [],
    vector=means(either(_RANK, NULL), "By similarity; null: not in this list"),
    words=means(either(_RANK, NULL), "By the words of its caption; null: not in this list"),
)
_HIT = component(
    "Hit",
    closed_object(
        ["id", "score", "metadata", "thumbnail"],
        id=means(STRING, "Id of the item"),
        score=means(NUMBER, "Cosine to the query; with `words` the joined score of both lists"),
        metadata=METADATA,
        thumbnail=means(STRING, "Path of its thumbnail on this server"),
        calibrated=PROBABILITY,
        duplicates=means(array_of(STRING), "With `group`: ids of the hits grouped under this one"),
        explain=means(EXPLAIN, "With `explain`: its rank and score in each list"),
    ),
)
ANSWER = component(
    "SearchAnswer",
    closed_object(
        ["object", "collection", "model", "revision", "recall", "recall_state", "data"],
        object={"const": "list"},
        collection=means(STRING, "Name of the collection searched"),
        model=means(STRING, "Name of the model that embedded the query"),
        revision=REVISION,
        recall=RECALL,
        recall_state=RECALL_STATE,
        path=means(
            {"type": "object"}, "With `explain`: how each segment was searched, exactly or by index"
        ),
        none_of_these=means(
            FLAG, "No item matches; only for a single text and where the bundle is calibrated"
        ),
        data=means(array_of(_HIT), "Hits, best first"),
    ),
)
