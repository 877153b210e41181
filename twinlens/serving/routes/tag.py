"""`POST /tag`: images to the nearest words of a vocabulary, as a form or JSON.

The vocabulary is a stored classifier: the one named, or `lexicon`, which is built from the shipped
words on first use. What must stay true: a vocabulary is embedded once for each revision.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.bundle.domain.domain_warning import warn_far
from twinlens.bundle.tagging.lexicon import NAME, read_lexicon
from twinlens.bundle.tagging.tags import rank_tags
from twinlens.errors import InputError, NotFoundError, TooLargeError
from twinlens.serving.call import Call
from twinlens.serving.contracts import Answers
from twinlens.serving.embedding import embed_items
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import (
    FILES,
    PICTURE,
    answer,
    body_of,
    declare,
    form_of,
    json_of,
)
from twinlens.serving.openapi.request_shapes import names_of, request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    IMAGE,
    INDEX,
    ITEM_ERROR,
    MODEL,
    NUMBER,
    PRECISION,
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
from twinlens.serving.requests.fields import Fields, is_json, parse_object, refuse_media
from twinlens.serving.requests.items import InputItem, read_image
from twinlens.serving.requests.multipart import parse_form
from twinlens.serving.routes.class_names import read_value
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.routes.zeroshot import WARNINGS, stack_rows
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits
from twinlens.serving.zeroshot.banks import build_bank
from twinlens.serving.zeroshot.classifiers import Classifier

TOP, MOST_TAGS = 5, 1000
_OPTIONS: dict[str, Schema] = {
    "classifier": means(
        STRING, "Stored classifier whose classes are the words; default: `lexicon`"
    ),
    "top_k": means(
        {"type": "integer", "minimum": 1, "maximum": MOST_TAGS},
        f"How many tags to return for each image; default {TOP}",
    ),
    "model": MODEL,
    "precision": PRECISION,
}
REQUEST = component(
    "TagRequest",
    request_object(
        ["images"],
        images=means(array_of(IMAGE, minItems=1), "Images to tag; at most `limits.items`"),
        **_OPTIONS,
    ),
)
FORM = closed_object(["images"], images=FILES, **_OPTIONS)
_TAG = component(
    "Tag",
    closed_object(
        ["tag", "similarity", "probability"],
        tag=means(STRING, "A word of the vocabulary"),
        similarity=means(NUMBER, "Cosine of the image and the word"),
        probability=means(
            {"type": ["number", "null"]},
            "Probability that the best word of the vocabulary is true at this cosine; null where "
            "the bundle is not calibrated",
        ),
    ),
)
ANSWER = component(
    "TagAnswer",
    closed_object(
        ["object", "data", "model", "revision", "classifier", "words"],
        object={"const": "list"},
        data=means(
            array_of(
                either(
                    closed_object(
                        ["index", "tags", "none_of_these"],
                        index=INDEX,
                        tags=means(array_of(_TAG), "The best tags, highest similarity first"),
                        none_of_these=means(
                            {"type": ["boolean", "null"]},
                            "No word fits; null where the bundle is not calibrated",
                        ),
                    ),
                    closed_object(["index", "error"], index=INDEX, error=ITEM_ERROR),
                )
            ),
            "One entry for each image, in order",
        ),
        model=USED_MODEL,
        revision=REVISION,
        classifier=means(STRING, "Name of the vocabulary"),
        words=means(COUNT, "How many words the vocabulary has"),
        warnings=WARNINGS,
    ),
)


@dataclass(frozen=True)
class TagRequest:
    """A request to `/tag`, from a form or JSON."""

    images: Sequence[InputItem]
    classifier: str
    top_k: int
    model: str | None
    precision: str | None


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["zero-shot"], route_class=HotRoute)

    @router.post(
        "/tag",
        **declare(
            {200: answer(ANSWER, "Tags for each image, best first")},
            body_of(
                json_of(
                    REQUEST,
                    words={"images": [PICTURE]},
                    best={"images": [PICTURE], "top_k": 1},
                ),
                form_of(FORM),
            ),
        ),
    )
    async def tag(request: Request) -> Response:
        """Tag images with the nearest words of a vocabulary; needs no class names."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            content_type = request.headers.get("content-type", "")
            parsed = read_request(body, content_type, service.settings.limits)
            with service.registry.lease(parsed.model, parsed.precision) as model:
                return await _answer(service, model, parsed, call)

    return router


def read_request(body: bytes, content_type: str, limits: Limits) -> TagRequest:
    """Return the request, read by its content type."""
    if content_type.startswith("multipart/form-data"):
        form = parse_form(body, content_type)
        given = [content for contents in form.files.values() for content in contents]
        values: dict[str, object] = {name: found[-1] for name, found in form.values.items()}
        if "top_k" in values:
            values["top_k"] = read_value(str(values["top_k"]))
        fields = Fields(values)
        fields.only(*(name for name in names_of(REQUEST) if name != "images"))
        images = [InputItem(image=content) for content in given]
    elif is_json(content_type):
        fields = parse_object(body, content_type)
        fields.only(*names_of(REQUEST))
        listed = fields.values("images", limits.items) or []
        images = [read_image(value, f"images[{i}]") for i, value in enumerate(listed)]
    else:
        raise refuse_media(content_type, "multipart/form-data or application/json")
    if not images:
        raise InputError("images is missing: send files, or a list of data URIs", field="images")
    if len(images) > limits.items:
        raise TooLargeError(f"the request holds more than {limits.items} images, the limit")
    return TagRequest(
        images,
        fields.text("classifier") or NAME,
        fields.integer("top_k", 1, MOST_TAGS) or TOP,
        fields.text("model"),
        fields.text("precision"),
    )


async def find_vocabulary(
    service: Service, model: ServedModel, name: str, call: Call
) -> Classifier:
    """Return the stored classifier of a name; `lexicon` is made and stored when it is missing."""
    try:
        return service.classifiers.get(name, model.revision)
    except NotFoundError:
        if name != NAME:
            raise
    templates = tuple(model.encoder.manifest.templates)
    bank = await build_bank(model, read_lexicon(), templates, call)
    made = Classifier(name, model.revision, bank, time.time(), templates)
    service.classifiers.put(made)
    return made


async def _answer(service: Service, model: ServedModel, parsed: TagRequest, call: Call) -> Response:
    """Find the vocabulary, embed the images, rank the words."""
    vocabulary = await find_vocabulary(service, model, parsed.classifier, call)
    embedded = await embed_items(model, parsed.images, call, service.fetcher)
    service.check_items(model, embedded.answers, call, "images")
    began = call.clock.now()
    data = _rank(model, embedded.answers, vocabulary, parsed.top_k)
    call.add("score", call.clock.now() - began)
    told = {
        "object": "list",
        "data": data,
        "model": model.name,
        "revision": model.revision,
        "classifier": vocabulary.name,
        "words": len(vocabulary.bank.names),
    }
    warning = warn_far(model.encoder.manifest, stack_rows(embedded.answers))
    content = dump(told | ({} if warning is None else {"warnings": [warning]}))
    return service.reply(content, model, call)


def _rank(
    model: ServedModel, answers: Answers, vocabulary: Classifier, count: int
) -> list[dict[str, Any]]:
    """Return an entry for each image: its tags or its error."""
    bank, calibration = vocabulary.bank, model.calibration
    rows = stack_rows(answers)
    levels = calibration.find_levels(rows) if calibration else [0.0] * len(rows)
    seen = iter(zip(model.encoder.classify(rows, bank.rows)[1], levels, strict=True))

    def rank() -> dict[str, Any]:
        cosines, level = next(seen)
        return rank_tags(bank.names, cosines, calibration, count, level).to_json()

    return [
        {"index": i, "error": describe(answer, where=f"images[{i}]")}
        if isinstance(answer, Exception)
        else {"index": i, **rank()}
        for i, answer in enumerate(answers)
    ]
