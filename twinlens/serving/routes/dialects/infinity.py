"""The paths of infinity's client besides `/embeddings`: `/classify`, `/models` and a few more.

In infinity a classifier is a model; here `classifier`, or else `model`, names a stored classifier.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.openapi.declaration import PICTURE, answer, declare, json_body
from twinlens.serving.openapi.request_shapes import open_request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    FLAG,
    NUMBER,
    STRING,
    TEXT,
    array_of,
    closed_object,
    component,
    either,
    list_of,
    means,
    open_object,
)
from twinlens.serving.requests.answers import answer_json, dump
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import read_text
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.dialects import openai
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.zeroshot.scoring import Scoring, score

_STATS = {
    "queue_fraction": "Share of the queues that is taken, 0 to 1",
    "queue_absolute": "Items between acceptance and answer",
    "results_pending": "As `queue_absolute`",
    "batch_size": "Texts of a batch",
}
MODEL_SHAPE = component(
    "InfinityModel",
    open_object(
        ["id", "object", "owned_by", "stats", "capabilities"],
        id=means(STRING, "The name to give as `model`"),
        object={"const": "model"},
        owned_by={"const": "infinity"},
        created=means(COUNT, "When it was loaded, in seconds since 1970"),
        backend=means(STRING, "Always `onnx`"),
        capabilities=means(array_of(STRING), "Always `embed`, `rerank` and `classify`"),
        stats=means(
            open_object([*_STATS], **{name: means(NUMBER, _STATS[name]) for name in _STATS}),
            "How full its queues are",
        ),
    ),
)
MODELS = list_of("InfinityModelList", MODEL_SHAPE, "The models, default first")
_FIELDS: dict[str, Any] = {
    "input": means(array_of(TEXT, minItems=1), "Texts to classify; at most `limits.texts`"),
    "model": means(
        STRING, "Without `classifier`: name of a stored classifier; else name of a served model"
    ),
    "classifier": means(STRING, "Name of a stored classifier"),
    "raw_scores": means(FLAG, "Return cosines instead of probabilities; default false"),
}
CLASSIFICATION = component(
    "ClassifyRequest",
    either(
        open_request_object(["input", "classifier"], **_FIELDS),
        open_request_object(["input", "model"], **_FIELDS),
    ),
)
_LABELS = array_of(
    closed_object(
        ["label", "score"],
        label=means(STRING, "Name of the class"),
        score=means(NUMBER, "Probability among the classes, or the cosine with `raw_scores`"),
    )
)
CLASSIFIED = component(
    "ClassifyAnswer",
    open_object(
        ["object", "data", "model", "usage"],
        object={"const": "classify"},
        data=means(array_of(_LABELS), "Labels of each text, best first"),
        model=means(STRING, "Name of the classifier"),
        usage=openai.USAGE,
    ),
)
ALIVE = component(
    "Alive", open_object(["unix"], unix=means(NUMBER, "The time, in seconds since 1970"))
)


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["infinity"], route_class=HotRoute)

    @router.post("/embeddings_image", **openai.declare_embeddings(one={"input": [PICTURE]}))
    async def embed_images(request: Request) -> Response:
        """Embed images at infinity's older path."""
        return await openai.answer_request(service, request, "image")

    @router.post(
        "/classify",
        **declare(
            {200: answer(CLASSIFIED, "Labels for each text, best first")},
            json_body(CLASSIFICATION, one={"input": ["a red square"], "classifier": "colours"}),
            message_field="detail",
        ),
    )
    async def classify(request: Request) -> Response:
        """Label texts with a stored classifier, in infinity's shape."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            return await _classify(service, fields, call)

    @router.get("/models", **declare({200: answer(MODELS, "The models")}))
    async def models(request: Request) -> Response:
        """List the models in infinity's shape, with the load of their queues."""
        service.authorize(request, "read")
        data = [_describe(service, name) for name in service.registry.names]
        return answer_json({"object": "list", "data": data})

    @router.get("/health", **declare({200: answer(ALIVE, "The process answers")}, is_open=True))
    async def health() -> Response:
        """Answer 200 as long as the event loop runs; /readyz says more."""
        return answer_json({"unix": time.time()})

    return router


async def _classify(service: Service, fields: Fields, call: Call) -> Response:
    limits = service.settings.limits
    values = fields.values("input", limits.texts)
    if values is None:
        raise InputError("input is missing: a list of texts", field="input")
    names = [f"input[{i}]" for i in range(len(values))]
    items = [read_text(v, name, limits) for v, name in zip(values, names, strict=True)]
    model_name, name = fields.text("model"), fields.text("classifier")
    is_raw = fields.flag("raw_scores")
    if name is None:
        name, model_name = model_name, None
    if name is None:
        raise InputError(
            "classifier is missing: name a stored classifier (PUT /classifiers/NAME) in classifier "
            "or model",
            field="classifier",
        )
    with service.registry.lease(model_name) as model:
        bank = service.classifiers.get(name, model.revision).bank
        rows, tokens = await embed_all_or_fail(service, model, items, names, call)
        kind = "similarity" if is_raw else "score"
        data = [
            [{"label": label["label"], "score": label[kind]} for label in one["labels"]]
            for one in score(model, rows, bank, Scoring())
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        told = {"object": "classify", "data": data, "model": name, "usage": usage}
        return service.reply(dump(told), model, call)


def _describe(service: Service, name: str) -> dict[str, object]:
    served = service.registry.find(name)
    queues = [tower.batcher for tower in served.default.towers]
    held, room = (sum(q.held for q in queues), sum(q.capacity for q in queues))
    return {
        "id": name,
        "object": "model",
        "owned_by": "infinity",  # its client accepts no other
        "created": served.created,
        "backend": "onnx",
        "capabilities": ["embed", "rerank", "classify"],
        "stats": {
            "queue_fraction": held / room,
            "queue_absolute": held,
            "results_pending": held,
            "batch_size": served.default.text_batch,
        },
    }
