"""`/classifiers`: stored class sets that are used by name; `/jobs`: their builds."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import InputError, TooLargeError
from twinlens.serving.background.classifier_builder import (
    ClassifierJobs,
    ClassSpec,
    build_classifier,
)
from twinlens.serving.call import Call
from twinlens.serving.contracts import EncodedImage
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import (
    PICTURE,
    JobId,
    Name,
    answer,
    body_of,
    declare,
    form_of,
    json_of,
)
from twinlens.serving.openapi.request_shapes import names_of
from twinlens.serving.openapi.schemas import (
    DELETED,
    JOB,
    list_of,
)
from twinlens.serving.requests.answers import answer_json, dump
from twinlens.serving.requests.fields import Fields, check_text, parse_object
from twinlens.serving.requests.items import InputItem, fetch_items
from twinlens.serving.requests.multipart import Form, parse_form
from twinlens.serving.routes.class_names import (
    read_templates,
    read_value,
)
from twinlens.serving.routes.classifier_shapes import (
    CLASSIFIER,
    CLASSIFIERS,
    FORM,
    JOB_STARTED,
    REQUEST,
)
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits
from twinlens.serving.zeroshot.classifiers import check_name
from twinlens.serving.zeroshot.templates import SETS

JOBS = list_of("JobList", JOB, "The jobs, newest first")
_EXAMPLES = "examples:"  # form field examples:cat holds images of the class cat


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["classifiers"])
    jobs = ClassifierJobs(service)

    @router.put(
        "/classifiers/{name}",
        **declare(
            {
                200: answer(CLASSIFIER, "Replaced"),
                201: answer(CLASSIFIER, "Stored"),
                202: answer(JOB_STARTED, "A job that builds it"),
            },
            body_of(
                json_of(
                    REQUEST,
                    names={"classes": ["red", "green"], "templates": "plain"},
                    examples={
                        "classes": [{"name": "red", "examples": [PICTURE]}, "green"],
                        "text_weight": 0.3,
                    },
                    job={"classes": ["red", "green"], "background": True},
                ),
                form_of(FORM),
            ),
        ),
    )
    async def put(name: Name, request: Request) -> Response:
        """Build and store a classifier; a large one becomes a job (202)."""
        call = service.begin(request, "write")
        check_name(name)
        async with service.receive(request, call) as body:
            fields, files = _read_body(body, request.headers.get("content-type", ""))
            with service.registry.lease(fields.text("model")) as model:
                return await _put(service, jobs, model, name, fields, files, call)

    @router.get("/classifiers", **declare({200: answer(CLASSIFIERS, "The classifiers")}))
    async def get_all(request: Request) -> Response:
        """List the classifiers and the named templates, and whether a restart keeps classifiers."""
        service.authorize(request, "read")
        data = [_shorten(c.describe()) for c in service.classifiers.all()]
        kept = service.settings.data is not None
        named = {name: list(one) for name, one in SETS.items()}
        return answer_json({"object": "list", "data": data, "kept": kept, "templates": named})

    @router.get("/classifiers/{name}", **declare({200: answer(CLASSIFIER, "The classifier")}))
    async def get(name: Name, request: Request) -> Response:
        """Describe a classifier, and list the revisions that it was built with."""
        service.authorize(request, "read")
        found = service.classifiers.find(name)
        return answer_json({**found[-1].describe(), "revisions": [c.revision for c in found]})

    @router.delete("/classifiers/{name}", **declare({200: answer(DELETED, "Deleted")}))
    async def delete(name: Name, request: Request) -> Response:
        """Delete a classifier."""
        service.authorize(request, "write")
        await asyncio.to_thread(service.classifiers.remove, name)
        return answer_json({"object": "classifier", "name": name, "deleted": True})

    @router.get("/jobs", tags=["jobs"], **declare({200: answer(JOBS, "Newest first")}))
    async def get_jobs(request: Request) -> Response:
        """List the jobs, newest first."""
        service.authorize(request, "read")
        return answer_json(
            {"object": "list", "data": [job.describe() for job in service.jobs.all()]}
        )

    @router.get("/jobs/{id}", tags=["jobs"], **declare({200: answer(JOB, "The job's progress")}))
    async def get_job(id: JobId, request: Request) -> Response:
        """Show the progress of a job."""
        service.authorize(request, "read")
        return answer_json(service.jobs.find(id).describe())

    return router


async def _put(
    service: Service,
    jobs: ClassifierJobs,
    model: ServedModel,
    name: str,
    fields: Fields,
    files: dict[str, list[bytes]],
    call: Call,
) -> Response:
    """Build a small classifier within the request, a large one as a job."""
    limits = service.settings.limits
    fields.only(*names_of(REQUEST))
    weight = fields.number("text_weight", 0.0, 1.0)
    classes = read_classes(fields, files, limits)
    templates = read_templates(fields, limits) or tuple(model.encoder.manifest.templates)
    is_large = len(classes) * len(templates) > limits.prompts
    has_examples = any(spec.examples for spec in classes)
    if not has_examples and model.texts is not None and (is_large or fields.flag("background")):
        job = jobs.start(model, name, [spec.name for spec in classes], templates)
        return answer_json({"job": job.describe()}, 202)
    if is_large:
        raise TooLargeError(
            f"a classifier with examples may take {limits.prompts} prompts; use fewer templates",
            field="templates",
        )
    classes = [await _fetch_examples(service, spec, call) for spec in classes]
    classifier = await build_classifier(
        model, name, classes, templates, 0.5 if weight is None else weight, call
    )
    was_there = await asyncio.to_thread(service.classifiers.put, classifier)
    content = dump({**classifier.describe(), "model": model.name})
    return service.reply(content, model, call, status=200 if was_there else 201)


def read_classes(fields: Fields, files: dict[str, list[bytes]], limits: Limits) -> list[ClassSpec]:
    """Return the classes: names, or objects with a name and examples."""
    values = fields.values("classes", limits.stored_classes) or []
    specs = [_read_class(value, i, limits) for i, value in enumerate(values)]
    known = {spec.name for spec in specs}
    specs = [ClassSpec(s.name, [*s.examples, *files.get(s.name, ())]) for s in specs]
    specs += [ClassSpec(name, images) for name, images in files.items() if name not in known]
    if not specs:
        raise InputError("classes is missing: a list of names", field="classes")
    if len({spec.name for spec in specs}) != len(specs):
        raise InputError("classes names a class twice", field="classes", code="duplicate_class")
    if sum(len(spec.examples) for spec in specs) > limits.items:
        raise TooLargeError(
            f"the classes have more than {limits.items} examples together, the limit",
            field="classes",
        )
    return specs


def _read_class(value: object, index: int, limits: Limits) -> ClassSpec:
    where = f"classes[{index}]"
    if isinstance(value, str):
        return ClassSpec(check_text(value, where, limits.text_characters))
    fields = Fields(value, where)
    fields.only("name", "examples")
    name = check_text(fields.any("name"), f"{where}.name", limits.text_characters)
    examples: list[EncodedImage] = []
    for i, image in enumerate(fields.values("examples", limits.items) or []):
        if not isinstance(image, str):
            path = f"{where}.examples[{i}]"
            raise InputError(f"{path} must be a data URI or base64", field=path)
        examples.append(image)
    return ClassSpec(name, examples)


def _read_body(body: bytes, content_type: str) -> tuple[Fields, dict[str, list[bytes]]]:
    """Return the options and, from a form, the example images by class."""
    if content_type.startswith("multipart/form-data"):
        return _read_form(parse_form(body, content_type))
    return parse_object(body, content_type), {}


def _read_form(form: Form) -> tuple[Fields, dict[str, list[bytes]]]:
    raw: dict[str, Any] = {
        name: values if name in ("classes", "templates") else values[-1]
        for name, values in form.values.items()
    }
    if len(form.values.get("templates", ())) == 1:
        raw["templates"] = form.values["templates"][0]
    for name in ("text_weight", "background"):
        if name in raw:
            raw[name] = read_value(raw[name])
    files: dict[str, list[bytes]] = {}
    for name, contents in form.files.items():
        if not name.startswith(_EXAMPLES) or name == _EXAMPLES:
            raise InputError(
                f"file field {name[:40]!r} is unknown; send images of a class as {_EXAMPLES}CLASS",
                field=name,
            )
        files[name.removeprefix(_EXAMPLES)] = contents
    return Fields(raw), files


async def _fetch_examples(service: Service, spec: ClassSpec, call: Call) -> ClassSpec:
    """Return the class with its URLs replaced by the bytes they point to."""
    items = await fetch_items([InputItem(image=x) for x in spec.examples], call, service.fetcher)
    for item in items:
        if item.error is not None:
            raise item.error
    return ClassSpec(spec.name, [item.image for item in items if item.image is not None])


def _shorten(described: dict[str, Any]) -> dict[str, Any]:
    """Replace the long lists by their lengths, for a list of classifiers."""
    return {
        **{k: v for k, v in described.items() if k not in ("classes", "templates")},
        "num_classes": len(described["classes"]),
    }
