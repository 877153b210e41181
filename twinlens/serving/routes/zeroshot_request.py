"""The body of `/zeroshot`, from a form or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from twinlens.errors import InputError, TooLargeError
from twinlens.serving.openapi.declaration import FILES
from twinlens.serving.openapi.request_shapes import exactly_one, names_of, request_object
from twinlens.serving.openapi.schemas import (
    FLAG,
    IMAGE,
    MODEL,
    PRECISION,
    STRING,
    Schema,
    array_of,
    closed_object,
    component,
    either,
    means,
)
from twinlens.serving.requests.fields import Fields, is_json, parse_object, refuse_media
from twinlens.serving.requests.items import InputItem, read_image
from twinlens.serving.requests.multipart import Form, parse_form
from twinlens.serving.routes.class_names import (
    CLASSES,
    FORM_TEMPLATES,
    ONE_OF_TEMPLATES,
    TEMPLATE_FIELDS,
    TEMPLATES,
    read_templates,
    read_value,
)
from twinlens.serving.settings import Limits
from twinlens.serving.zeroshot.scoring import Scoring

_CLASSES = ("classes", "candidate_labels", "labels")
_TYPED: dict[str, Schema] = {
    "top_k": means(
        {"type": "integer", "minimum": 1, "maximum": 1_000_000},
        "How many labels to return for each image; default: all",
    ),
    "multi_label": means(
        FLAG, "Score each class by itself; default false: a softmax bundle's scores sum to 1"
    ),
    "none_of_these": means(
        either(FLAG, {"type": "number", "minimum": -1, "maximum": 1}),
        "Say whether no class fits: a number is the least cosine that fits, true leaves it to the "
        "calibration or the neutral prompt; default: true for calibrated bundles",
    ),
}
_OPTIONS: dict[str, Schema] = {"model": MODEL, "precision": PRECISION, **_TYPED}
REQUEST = component(
    "ZeroShotRequest",
    request_object(
        ["images"],
        exactly_one(*_CLASSES, "classifier"),
        ONE_OF_TEMPLATES,
        images=means(
            array_of(either(IMAGE, closed_object(["image"], image=IMAGE)), minItems=1),
            "Images, or objects with one; at most `limits.items`",
        ),
        classes=CLASSES,
        **dict.fromkeys(_CLASSES[1:], means(CLASSES, "Another name of `classes`")),
        classifier=means(STRING, "Name of a stored classifier, instead of `classes`"),
        **TEMPLATE_FIELDS,
        **_OPTIONS,
    ),
)
# What Hugging Face's client sends; the answer is a bare list of labels and scores.
TASK = component(
    "ZeroShotTask",
    request_object(
        ["inputs", "parameters"],
        inputs=IMAGE,
        parameters=means(
            request_object(
                ["candidate_labels"],
                candidate_labels=CLASSES,
                hypothesis_template=TEMPLATES,
                multi_label=_TYPED["multi_label"],
            ),
            "Hugging Face's options of the task",
        ),
    ),
)
FORM: Schema = {
    "description": "In the place of classes: classifier, the name of a stored one",
    **closed_object(
        ["images", "classes"],
        images=FILES,
        classes=CLASSES,
        templates=FORM_TEMPLATES,
        **_OPTIONS,
    ),
}


@dataclass(frozen=True)
class ZeroShotRequest:
    """A request to `/zeroshot`, from a form or JSON."""

    images: Sequence[InputItem]
    classes: Sequence[str] | None = None
    classifier: str | None = None
    templates: tuple[str, ...] | None = None
    scoring: Scoring = field(default_factory=Scoring)
    model: str | None = None
    precision: str | None = None
    is_bare: bool = False


def read_request(body: bytes, content_type: str, limits: Limits) -> ZeroShotRequest:
    """Return the request, read by its content type."""
    if content_type.startswith("multipart/form-data"):
        return _read_form(parse_form(body, content_type), limits)
    if is_json(content_type):
        return _read_json(parse_object(body, content_type), limits)
    raise refuse_media(content_type, "multipart/form-data or application/json")


def _read_task(fields: Fields, limits: Limits) -> ZeroShotRequest:
    """Return the request of Hugging Face's client: one image, its options under `parameters`."""
    fields.only(*names_of(TASK))
    options = Fields(fields.any("parameters"), "parameters")
    options.only(*names_of(TASK["properties"]["parameters"]))
    parsed = _read_options(options, [read_image(fields.any("inputs"), "inputs")], limits)
    return replace(parsed, is_bare=True)


def _read_json(fields: Fields, limits: Limits) -> ZeroShotRequest:
    if fields.has("inputs"):
        return _read_task(fields, limits)
    fields.only(*names_of(REQUEST))
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
    fields.only(*(name for name in names_of(REQUEST) if name != "images"))
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
