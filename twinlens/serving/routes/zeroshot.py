"""`POST /zeroshot`: images and class names to labels, best first, as a form or JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.bundle.arrays import Rows
from twinlens.bundle.domain.domain_warning import warn_far
from twinlens.serving.call import Call
from twinlens.serving.contracts import Answers
from twinlens.serving.embedding import embed_items
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import (
    PICTURE,
    answer,
    body_of,
    declare,
    form_of,
    json_of,
)
from twinlens.serving.openapi.schemas import (
    COUNT,
    FLAG,
    INDEX,
    ITEM_ERROR,
    NUMBER,
    REVISION,
    STRING,
    USED_MODEL,
    Schema,
    array_of,
    closed_object,
    component,
    either,
    means,
)
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.error_responses import describe
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.routes.zeroshot_request import (
    FORM,
    REQUEST,
    TASK,
    ZeroShotRequest,
    read_request,
)
from twinlens.serving.service import Service
from twinlens.serving.zeroshot.banks import ClassBank, build_bank, check_prompts
from twinlens.serving.zeroshot.scoring import Scoring, score

PROBABILITY: Schema = means(
    {"type": "number", "minimum": 0, "maximum": 1},
    "The probability that this is right; absent where the bundle is not calibrated",
)
WARNINGS: Schema = means(
    array_of(STRING, minItems=1), "Says that the images look unlike those that the model knows"
)
_LABEL = component(
    "Label",
    closed_object(
        ["label", "index", "score", "similarity"],
        label=means(STRING, "Name of the class"),
        index=means(COUNT, "Position of the class in the request or classifier, from 0"),
        score=means(NUMBER, "Probability among the classes given, from the similarity node"),
        similarity=means(NUMBER, "Cosine of the image and the class"),
        calibrated=PROBABILITY,
    ),
)
BARE = component(
    "ZeroShotLabels",
    array_of(
        closed_object(
            ["label", "score"],
            label=means(STRING, "Name of the class"),
            score=means(NUMBER, "Probability among the classes given"),
        )
    ),
)
ANSWER = component(
    "ZeroShotAnswer",
    closed_object(
        ["object", "data", "model", "revision"],
        object={"const": "list"},
        data=means(
            array_of(
                either(
                    closed_object(
                        ["index", "labels"],
                        index=INDEX,
                        labels=means(array_of(_LABEL), "The best labels, highest score first"),
                        none_of_these=means(FLAG, "No class fits; absent if not asked for"),
                    ),
                    closed_object(["index", "error"], index=INDEX, error=ITEM_ERROR),
                )
            ),
            "One entry for each image, in order",
        ),
        model=USED_MODEL,
        revision=REVISION,
        warnings=WARNINGS,
    ),
)

_LABELS_A_TURN = 1000  # about a millisecond where they are calibrated


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["zero-shot"], route_class=HotRoute)

    @router.post(
        "/zeroshot",
        summary="Score images against class names or a stored classifier",
        **declare(
            {200: answer(either(ANSWER, BARE), "Labels for each image, best first")},
            body_of(
                json_of(
                    either(REQUEST, TASK),
                    names={"images": [PICTURE], "classes": ["red", "green", "blue"]},
                    one_by_one={
                        "images": [PICTURE],
                        "classes": ["red", "blue"],
                        "templates": ["a photo of a {}", "{}"],
                        "multi_label": True,
                        "none_of_these": True,
                    },
                    aliases={
                        "images": [PICTURE],
                        "candidate_labels": ["red", "green"],
                        "hypothesis_template": "a photo of a {}",
                        "top_k": 1,
                    },
                    hugging_face={
                        "inputs": PICTURE,
                        "parameters": {"candidate_labels": ["red", "green"]},
                    },
                ),
                form_of(FORM),
            ),
        ),
    )
    async def zeroshot(request: Request) -> Response:
        """Score images against class names or a stored classifier."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            parsed = read_request(
                body, request.headers.get("content-type", ""), service.settings.limits
            )
            with service.registry.lease(parsed.model, parsed.precision) as model:
                return await _answer(service, model, parsed, call)

    return router


async def _answer(
    service: Service, model: ServedModel, parsed: ZeroShotRequest, call: Call
) -> Response:
    """Find or build the bank, embed the images, score them."""
    model.weigh_images(len(parsed.images), call)
    bank = await find_bank(service, model, parsed, call)
    embedded = await embed_items(model, parsed.images, call, service.fetcher)
    service.check_items(model, embedded.answers, call, "images")
    began = call.clock.now()
    data = await label(model, embedded.answers, bank, parsed.scoring, call)
    call.add("score", call.clock.now() - began)
    if parsed.is_bare:
        bare = [{"label": one["label"], "score": one["score"]} for one in data[0]["labels"]]
        return service.reply(dump(bare), model, call)
    told = {"object": "list", "data": data, "model": model.name, "revision": model.revision}
    warning = warn_far(model.encoder.manifest, stack_rows(embedded.answers))
    content = dump(told | ({} if warning is None else {"warnings": [warning]}))
    return service.reply(content, model, call)


async def find_bank(
    service: Service, model: ServedModel, parsed: ZeroShotRequest, call: Call
) -> ClassBank:
    """Return the stored classifier's bank, or the bank of the classes, cached or built now."""
    if parsed.classifier is not None:
        return service.classifiers.get(parsed.classifier, model.revision).bank
    classes = tuple(parsed.classes or ())
    templates = parsed.templates or tuple(model.encoder.manifest.templates)
    key = (model.space, classes, templates)
    bank = service.banks.get(key)
    if bank is None:
        check_prompts(len(classes), len(templates), service.settings.limits.prompts)
        bank = await build_bank(model, classes, templates, call)
        service.banks.put(key, bank)
    return bank


async def label(
    model: ServedModel, answers: Answers, bank: ClassBank, scoring: Scoring, call: Call
) -> list[dict[str, Any]]:
    """Return an entry for each image: its labels or its error.

    With many labels, a few images are labelled at a time, so that other requests run between.
    """
    rows = stack_rows(answers)
    step = max(1, _LABELS_A_TURN // len(bank.names))
    found: list[dict[str, Any]] = []
    for start in range(0, len(rows), step):
        began = call.clock.now()
        found += score(model, rows[start : start + step], bank, scoring)
        if start + step < len(rows):
            await model.throttles.give_way(call.priority, call.clock.now() - began)
    labelled = iter(found)
    return [
        {"index": i, "error": describe(answer, where=f"images[{i}]")}
        if isinstance(answer, Exception)
        else {"index": i, **next(labelled)}
        for i, answer in enumerate(answers)
    ]


def stack_rows(answers: Answers) -> Rows:
    """Return the embeddings of the items that did not fail."""
    return np.stack([answer for answer in answers if not isinstance(answer, Exception)])
