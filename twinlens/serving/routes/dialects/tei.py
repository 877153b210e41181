"""Text Embeddings Inference: `POST /`, `GET /info`, and `/predict` with JSON.

`/embed` reads its shape too, and `/rerank` its `texts`. `POST /` always answers rows alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import answer, declare, json_body
from twinlens.serving.openapi.request_shapes import open_request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    FLAG,
    MODEL,
    NUMBER,
    NUMBERS,
    STRING,
    TEXT,
    array_of,
    closed_object,
    component,
    either,
    means,
    open_object,
)
from twinlens.serving.requests.answers import answer_json, dump
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import InputItem, read_text
from twinlens.serving.routes import embed, embed_shapes
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits
from twinlens.serving.zeroshot.scoring import Scoring, score
from twinlens.version import __version__

INFO = component(
    "ServerInfo",
    open_object(
        ["model_id", "model_sha", "model_type", "max_input_length", "version"],
        model_id=means(STRING, "Name of the default model"),
        model_sha=means(STRING, "Revision of its bundle"),
        model_dtype=means(STRING, "Always `float32`"),
        model_type=means({"type": "object"}, 'Always {"embedding": {"pooling": "mean"}}'),
        max_concurrent_requests=means(COUNT, "`limits.requests_in_flight`"),
        max_input_length=means(COUNT, "Context of the model in tokens; longer texts are cut off"),
        max_batch_tokens=means(COUNT, "Most tokens of a batch"),
        max_batch_requests=means(COUNT, "Most texts of a batch"),
        max_client_batch_size=means(COUNT, "`limits.texts`: most texts of a request"),
        auto_truncate=means(FLAG, "Always true: long texts are cut off"),
        tokenization_workers=means(COUNT, "Always 1"),
        version=means(STRING, "Version of Twinlens"),
    ),
)
_PAIR = array_of(TEXT, minItems=2, maxItems=2)
_INPUTS = "Texts to classify, or pairs of texts to compare; at most half of `limits.texts`"
PREDICTION = component(
    "PredictRequest",
    either(
        open_request_object(
            ["inputs"], inputs=means(array_of(_PAIR, minItems=1), _INPUTS), model=MODEL
        ),
        open_request_object(
            ["inputs", "classifier"],
            inputs=means(either(TEXT, array_of(TEXT, minItems=1)), _INPUTS),
            classifier=means(STRING, "Name of a stored classifier; required unless given pairs"),
            model=MODEL,
        ),
    ),
)
_LABELS = array_of(
    closed_object(
        ["label", "score"],
        label=means(STRING, "Name of the class; of a pair `similarity`"),
        score=means(NUMBER, "Probability among the classes; of a pair its cosine"),
    )
)
PREDICTED = component("PredictAnswer", either(_LABELS, array_of(_LABELS)))


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["tei"], route_class=HotRoute)

    @router.post(
        "/",
        **declare(
            {200: answer(array_of(NUMBERS), "A row for each input")},
            json_body(
                embed_shapes.REQUEST,
                one={"inputs": "a red square"},
                two={"inputs": ["red", "blue"]},
            ),
        ),
    )
    async def root(request: Request) -> Response:
        """Embed texts as Text Embeddings Inference does: a bare list of rows."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            parsed = replace(embed.read_json(fields, service.settings.limits), is_bare=True)
            return await embed.answer_request(service, parsed, "", call)

    @router.get("/info", **declare({200: answer(INFO, "The default model and the limits")}))
    async def info(request: Request) -> Response:
        """Describe the default model as Text Embeddings Inference does."""
        service.authorize(request, "read")
        with service.registry.lease() as model:
            return answer_json(_describe(model, service))

    return router


def _describe(model: ServedModel, service: Service) -> dict[str, Any]:
    limits = service.settings.limits
    return {
        "model_id": model.name,
        "model_sha": model.revision,
        "model_dtype": "float32",
        "model_type": {"embedding": {"pooling": "mean"}},
        "max_concurrent_requests": limits.requests_in_flight,
        "max_input_length": model.context,
        "max_batch_tokens": model.context * model.text_batch,
        "max_batch_requests": model.text_batch,
        "max_client_batch_size": limits.texts,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": __version__,
    }


async def predict(service: Service, fields: Fields, call: Call) -> Response:
    """Answer `/predict`: the labels of a stored classifier for texts, the cosines of pairs."""
    limits = service.settings.limits
    texts, pairs = _read_inputs(fields, limits)
    name = None if pairs else fields.text("classifier")
    if not pairs and name is None:
        raise InputError(
            "classifier is missing: the name of a stored one, whose classes are scored (PUT "
            "/classifiers/NAME); pairs of texts need none",
            field="classifier",
        )
    with service.registry.lease(fields.text("model")) as model:
        if name is None:
            rows, _ = await embed_all_or_fail(service, model, pairs, _names(pairs), call)
            cosines = (rows[0::2] * rows[1::2]).sum(axis=1)
            told: list[Any] = [[{"label": "similarity", "score": float(x)}] for x in cosines]
        else:
            bank = service.classifiers.get(name, model.revision).bank
            rows, _ = await embed_all_or_fail(service, model, texts, _names(texts), call)
            told = [_shorten(one) for one in score(model, np.asarray(rows), bank, Scoring())]
        is_one = isinstance(fields.any("inputs"), str)
        return service.reply(dump(told[0] if is_one else told), model, call)


def _read_inputs(fields: Fields, limits: Limits) -> tuple[list[InputItem], list[InputItem]]:
    """Return texts, or the texts of pairs one after another."""
    value = fields.any("inputs")
    if isinstance(value, str):
        return [read_text(value, "inputs", limits)], []
    values = fields.values("inputs", limits.texts // 2)
    if values is None:
        raise InputError("inputs is missing: a text, texts, or pairs of texts", field="inputs")
    if not isinstance(values[0], list):
        return [read_text(v, f"inputs[{i}]", limits) for i, v in enumerate(values)], []
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in values):
        raise InputError("inputs must be pairs of texts, all of them", field="inputs")
    flat = [text for pair in values for text in pair]
    return [], [read_text(v, f"inputs[{i // 2}]", limits) for i, v in enumerate(flat)]


def _names(items: list[InputItem]) -> list[str]:
    return [f"inputs[{i}]" for i in range(len(items))]


def _shorten(scored: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"label": one["label"], "score": one["score"]} for one in scored["labels"]]
