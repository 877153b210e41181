"""Request and answer shapes of `/classifiers`, for OpenAPI."""

from __future__ import annotations

from twinlens.serving.openapi.request_shapes import request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    FLAG,
    IMAGE,
    JOB,
    MODEL,
    NUMBER,
    STRING,
    TEXT,
    Schema,
    array_of,
    closed_object,
    component,
    either,
    list_of,
    means,
    open_object,
)
from twinlens.serving.routes.class_names import (
    CLASSES,
    FORM_TEMPLATES,
    ONE_OF_TEMPLATES,
    TEMPLATE_FIELDS,
)

_OPTIONS: dict[str, Schema] = {
    "text_weight": means(
        {"type": "number", "minimum": 0, "maximum": 1},
        "Of a class with examples: the weight of its name, the rest is the examples'; default 0.5",
    ),
    "background": means(FLAG, "Build it as a job even if it is small; default false"),
    "model": MODEL,
}
_EXAMPLE_CLASS = request_object(
    ["name"],
    name=means(TEXT, "Its label, and its text where the model embeds texts"),
    examples=means(array_of(IMAGE, minItems=1), "Images of this class; default: the name alone"),
)
REQUEST = component(
    "ClassifierRequest",
    request_object(
        ["classes"],
        ONE_OF_TEMPLATES,
        classes=means(
            array_of(either(TEXT, _EXAMPLE_CLASS), minItems=1),
            "Class names, or objects with example images; at most `limits.stored_classes`",
        ),
        **TEMPLATE_FIELDS,
        **_OPTIONS,
    ),
)
FORM: Schema = {
    "description": "And files: examples:CLASS for images of a class",
    **closed_object(
        ["classes"],
        classes=means(CLASSES, "Class names; a file field `examples:NAME` is an image of NAME"),
        templates=FORM_TEMPLATES,
        **_OPTIONS,
    ),
}
CLASSIFIER = component(
    "Classifier",
    open_object(
        ["object", "name", "revision", "examples", "created"],
        object={"const": "classifier"},
        name=means(STRING, "The name to give as `classifier`"),
        revision=means(STRING, "Bundle revision that it was built with, and is used with"),
        classes=means(array_of(STRING), "Class names in order; absent in lists"),
        num_classes=means(COUNT, "How many classes it has; in lists only"),
        templates=means(array_of(STRING), "Its templates; absent in lists"),
        examples=means(COUNT, "How many example images it was built from"),
        created=means(NUMBER, "When it was built, in seconds since 1970"),
        model=means(STRING, "Name of the model that built it; in the answer to PUT only"),
        revisions=means(
            array_of(STRING), "Every revision that it was built with; in the answer to GET only"
        ),
    ),
)
CLASSIFIERS = list_of(
    "ClassifierList",
    CLASSIFIER,
    "The classifiers, by name",
    kept=means(FLAG, "Whether classifiers survive a restart: the server has `--data`"),
    templates=means(
        {"type": "object", "additionalProperties": array_of(STRING)},
        "The named sets of templates, by name",
    ),
)
JOB_STARTED = component(
    "JobStarted",
    closed_object(["job"], job=means(JOB, "The job; `GET /jobs/{id}` shows its progress")),
)
