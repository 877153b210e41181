"""`POST /zeroshot`: images and class names to labels, best first, as a form or JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from twinlens.bundle.arrays import Rows
from twinlens.bundle.domain.domain_warning import warn_far
from twinlens.errors import InputError, TooLargeError
from twinlens.serving.call import Call
from twinlens.serving.contracts import Answers
from twinlens.serving.embedding import embed_items
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.failures import MediaTypeError
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.error_responses import describe
from twinlens.serving.requests.fields import Fields, check_text, is_json, parse_object
from twinlens.serving.requests.items import InputItem
from twinlens.serving.requests.multipart import Form, parse_form
from twinlens.serving.routes.endpoint import Endpoint
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits
from twinlens.serving.zeroshot.banks import ClassBank, build_bank, check_prompts
from twinlens.serving.zeroshot.scoring import Scoring, score
from twinlens.serving.zeroshot.templates import choose_templates

_OPTIONS = ("model", "precision", "classifier", "top_k", "multi_label", "none_of_these")
_CLASSES = ("classes", "candidate_labels", "labels")
_TEMPLATES = ("templates", "hypothesis_template")
_TYPED = ("top_k", "multi_label", "none_of_these")
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,9}(?:\.[0-9]{0,17})?|\.[0-9]{1,17})(?:[eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class ZeroShotRequest:
    """A request to `/zeroshot`, from a form or JSON."""

    images: Sequence[InputItem]
    classes: Sequence[str] | None = None
    classifier: str | None = None
    templates: str | Sequence[str] | None = None
    scoring: Scoring = field(default_factory=Scoring)
    model: str | None = None
    precision: str | None = None


PATHS = ("/zeroshot",)


def build_endpoint(service: Service) -> Endpoint:
    """Return the handler of this file's paths."""

    async def zeroshot(request: Request) -> Response:
        """Score images against class names or a stored classifier."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            parsed = read_request(
                body, request.headers.get("content-type", ""), service.settings.limits
            )
            with service.registry.lease(parsed.model, parsed.precision) as model:
                return await _answer(service, model, parsed, call)

    return zeroshot


def read_request(body: bytes, content_type: str, limits: Limits) -> ZeroShotRequest:
    """Return the request, read by its content type."""
    if content_type.startswith("multipart/form-data"):
        return _read_form(parse_form(body, content_type), limits)
    if is_json(content_type):
        return _read_json(parse_object(body, content_type), limits)
    raise MediaTypeError(
        f"a body of type {content_type[:80]!r} is not accepted here; send multipart/form-data or "
        "application/json"
    )


async def _answer(
    service: Service, model: ServedModel, parsed: ZeroShotRequest, call: Call
) -> Response:
    """Find or build the bank, embed the images, score them."""
    bank = await find_bank(service, model, parsed, call)
    embedded = await embed_items(model, parsed.images, call, service.fetcher)
    service.check_items(model, embedded.answers, call, "images")
    began = call.clock.now()
    data = label(model, embedded.answers, bank, parsed.scoring)
    call.add("score", call.clock.now() - began)
    answer = {"object": "list", "data": data, "model": model.name, "revision": model.revision}
    warning = warn_far(model.encoder.manifest, stack_rows(embedded.answers))
    content = dump(answer | ({} if warning is None else {"warnings": [warning]}))
    return service.reply(content, model, call)


async def find_bank(
    service: Service, model: ServedModel, parsed: ZeroShotRequest, call: Call
) -> ClassBank:
    """Return the stored classifier's bank, or the bank of the classes, cached or built now."""
    if parsed.classifier is not None:
        return service.classifiers.get(parsed.classifier, model.revision).bank
    classes = tuple(parsed.classes or ())
    templates = choose_templates(parsed.templates, model.encoder.manifest.templates)
    key = (model.space, classes, templates)
    bank = service.banks.get(key)
    if bank is None:
        check_prompts(len(classes), len(templates), service.settings.limits.prompts)
        bank = await build_bank(model, classes, templates, call)
        service.banks.put(key, bank)
    return bank


def label(
    model: ServedModel, answers: Answers, bank: ClassBank, scoring: Scoring
) -> list[dict[str, Any]]:
    """Return an entry for each image: its labels or its error."""
    labelled = iter(score(model, stack_rows(answers), bank, scoring))
    return [
        {"index": i, "error": describe(answer, where=f"images[{i}]")}
        if isinstance(answer, Exception)
        else {"index": i, **next(labelled)}
        for i, answer in enumerate(answers)
    ]


def stack_rows(answers: Answers) -> Rows:
    """Return the embeddings of the items that did not fail."""
    return np.stack([answer for answer in answers if not isinstance(answer, Exception)])


def _read_json(fields: Fields, limits: Limits) -> ZeroShotRequest:
    fields.only("images", *_CLASSES, *_TEMPLATES, *_OPTIONS)
    images = fields.values("images", limits.items)
    if images is None:
        raise InputError("images is missing: a list of data URIs", field="images")
    return _read_options(fields, [_read_image(x, i) for i, x in enumerate(images)], limits)


def _read_image(value: object, index: int) -> InputItem:
    if isinstance(value, dict):
        fields = Fields(value, f"images[{index}]")
        fields.only("image")
        value = fields.any("image")
    if not isinstance(value, str):
        raise InputError(f"images[{index}] must be a data URI or base64", field=f"images[{index}]")
    return InputItem(image=value)


def _read_form(form: Form, limits: Limits) -> ZeroShotRequest:
    """Read files as images; repeated fields are lists, single ones options."""
    files = [content for contents in form.files.values() for content in contents]
    if not files:
        raise InputError("the form holds no file; send images as files", field="images")
    if len(files) > limits.items:
        raise TooLargeError(f"the form holds more than {limits.items} images, the limit")
    raw: dict[str, object] = {}
    for name, values in form.values.items():
        raw[name] = values if name in (*_CLASSES, "templates") else values[-1]
    for name in _TYPED:
        if name in raw:
            raw[name] = read_value(form.values[name][-1])
    if raw.get("templates") and len(form.values["templates"]) == 1:
        raw["templates"] = form.values["templates"][0]
    fields = Fields(raw)
    fields.only(*_CLASSES, *_TEMPLATES, *_OPTIONS)
    return _read_options(fields, [InputItem(image=file) for file in files], limits)


def _read_options(fields: Fields, images: Sequence[InputItem], limits: Limits) -> ZeroShotRequest:
    classes = _read_classes(fields, limits)
    classifier = fields.text("classifier")
    if (classes is None) == (classifier is None):
        raise InputError("give either classes or classifier", field="classes")
    return ZeroShotRequest(
        images=images,
        classes=classes,
        classifier=classifier,
        templates=read_templates(fields, limits),
        scoring=read_scoring(fields),
        model=fields.text("model"),
        precision=fields.text("precision"),
    )


def _read_classes(fields: Fields, limits: Limits) -> list[str] | None:
    given = [name for name in _CLASSES if fields.has(name)]
    if len(given) > 1:
        raise InputError(f"give one of {' and '.join(given)}", field=given[1])
    return fields.texts(given[0], limits.classes, limits.text_characters) if given else None


def read_templates(fields: Fields, limits: Limits) -> str | list[str] | None:
    """Return the name of a set, one template, a list of templates, or None."""
    if all(fields.has(name) for name in _TEMPLATES):
        raise InputError("give either templates or hypothesis_template", field=_TEMPLATES[1])
    for name in _TEMPLATES:
        value = fields.any(name)
        if isinstance(value, str):
            return check_text(value, name, limits.text_characters)
        if value is not None:
            return fields.texts(name, limits.templates, limits.text_characters)
    return None


def read_scoring(fields: Fields) -> Scoring:
    """Return the scoring options."""
    threshold = fields.any("none_of_these")
    if not isinstance(threshold, bool):
        threshold = fields.number("none_of_these", -1.0, 1.0)
    return Scoring(
        top_k=fields.integer("top_k", 1, 1_000_000),
        multi_label=fields.flag("multi_label"),
        none_of_these=threshold,
    )


def read_value(value: str) -> object:
    """Return a form's text as the boolean or number that it spells, else unchanged."""
    if value.lower() in _TRUTHS:
        return _TRUTHS[value.lower()]
    if _INTEGER.fullmatch(value):
        return int(value)
    return float(value) if _NUMBER.fullmatch(value) else value
