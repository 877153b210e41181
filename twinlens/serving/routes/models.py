"""`/v1/models`: the served models, in OpenAI's shape with Twinlens' own fields added.

An admin key may load, swap and unload. A request names a bundle, never a path: one in the server's
bundle folder, the builtin one, the one that is already served under the name, or, where the server
allows that, a ready model of the hub.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.bundle.dimensions import list_lengths
from twinlens.bundle.location import SHIPPED
from twinlens.bundle.pull.source import PREFIX, parse_source
from twinlens.errors import ConflictError, InputError, NotFoundError, TwinlensError
from twinlens.serving.engine.registry import Served
from twinlens.serving.failures import ForbiddenError
from twinlens.serving.openapi.declaration import Name, answer, body_of, declare, json_of
from twinlens.serving.openapi.request_shapes import names_of, request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    DELETED,
    FLAG,
    STRING,
    array_of,
    component,
    either,
    list_of,
    means,
    one_of,
    open_object,
)
from twinlens.serving.requests.answers import answer_json
from twinlens.serving.requests.fields import parse_optional_object
from twinlens.serving.service import Service
from twinlens.serving.zeroshot.classifiers import check_name

log = logging.getLogger("twinlens.serving")

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MODEL_SHAPE = component(
    "Model",
    open_object(
        ["id", "object", "created", "owned_by", "revision", "embedding_dim"],
        id=means(STRING, "The name to give as `model`; aliases are listed too"),
        object={"const": "model"},
        created=means(COUNT, "When it was loaded, in seconds since 1970"),
        owned_by=means(STRING, "Always `twinlens`"),
        bundle=means(STRING, "Name of the bundle"),
        revision=means(STRING, "Revision of the bundle, computed from its content"),
        embedding_dim=means(COUNT, "Numbers in a full embedding"),
        dimensions=means(array_of(COUNT), "Lengths that the bundle was trained for, ascending"),
        any_dimension=means(FLAG, "Whether every length up to `embedding_dim` is offered"),
        modalities=means(array_of(one_of("image", "text")), "What it embeds"),
        precisions=means(array_of(STRING), "Precisions that are loaded, the default first"),
        image_size=means(
            array_of(COUNT), "Width and height in pixels of its input; empty without an image tower"
        ),
        provider=means(STRING, "What computes, e.g. `CPUExecutionProvider`"),
        engines=means(
            {"type": "object", "additionalProperties": {"type": "object"}},
            "By precision and tower: `onnxruntime` or `openvino`",
        ),
        similarity=means(STRING, "How scores follow from cosines: `softmax` or `sigmoid`"),
        templates=means(array_of(STRING), "Prompt templates that are used by default"),
        has_attention=means(FLAG, "Whether `/attention` works"),
        card=means(
            {"type": ["object", "null"]}, "What the model is suited for and what not, if known"
        ),
        calibration=means(
            {"type": ["object", "null"]},
            "How probabilities follow from cosines, and the data that this was measured on",
        ),
    ),
)
_READY_MODEL = {"type": "string", "pattern": rf"^{PREFIX}[A-Za-z0-9]\w*/[A-Za-z0-9]\w*$"}
LOAD = request_object(
    [],
    bundle=means(
        either(
            {"type": "string", "pattern": f"^{_FOLDER.pattern}$"}, one_of(*SHIPPED), _READY_MODEL
        ),
        "A folder in `--bundles`, a shipped bundle or, with `--allow-pull`, a model of the hub; "
        "default: the source of the model that has this name now",
    ),
)
_COHERE_MODEL = open_object(
    ["name"],
    name=means(STRING, "As `id`"),
    endpoints=means(array_of(STRING), "What it can be used for"),
    finetuned=means(FLAG, "Always false"),
)
MODELS = list_of(
    "ModelList",
    MODEL_SHAPE,
    "The models, default first",
    models=means(array_of(_COHERE_MODEL), "The same models, for Cohere's client"),
)


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["models"])
    loading = asyncio.Lock()

    @router.get("/v1/models", **declare({200: answer(MODELS, "The models")}))
    async def models(request: Request) -> Response:
        """List the models, default first."""
        service.authorize(request, "read")
        names = service.registry.names
        aliases = [name for name in service.registry.aliases if name not in names]
        data = [describe_model(n, service.registry.find(n)) for n in (*names, *aliases)]
        return answer_json(
            {"object": "list", "data": data, "models": [_as_cohere(m) for m in data]}
        )

    @router.get("/v1/models/{name}", **declare({200: answer(MODEL_SHAPE, "The model")}))
    async def model(name: Name, request: Request) -> Response:
        """Describe one model."""
        service.authorize(request, "read")
        return answer_json(describe_model(name, service.registry.find(name)))

    @router.put(
        "/v1/models/{name}",
        **declare({200: answer(MODEL_SHAPE, "Loaded")}, body_of(json_of(LOAD), required=False)),
    )
    async def put(name: Name, request: Request) -> Response:
        """Load a bundle under a name, or swap the one served there, without failing requests."""
        call = service.begin(request, "admin")
        check_name(name)
        async with service.receive(request, call) as body:
            fields = parse_optional_object(body, request.headers.get("content-type", ""))
        fields.only(*names_of(LOAD))
        source = find_source(service, name, fields.text("bundle"))
        async with loading:  # two loads at once could take twice the memory
            try:
                await service.swap(name, source)
            except TwinlensError as error:  # the path of the bundle belongs in the log only
                log.error("cannot load %s: %s", name, error.message)
                if not source.startswith(PREFIX):
                    for path in (str(Path(source).resolve()), source):
                        error.message = error.message.replace(path, f"bundle {Path(source).name!r}")
                raise
        return answer_json(describe_model(name, service.registry.find(name)))

    @router.delete("/v1/models/{name}", **declare({200: answer(DELETED, "Unloaded")}))
    async def delete(name: Name, request: Request) -> Response:
        """Unload a model; running requests finish."""
        service.authorize(request, "admin")
        if service.registry.names == [name]:
            raise ConflictError(f"{name!r} is the only model; load another before", field="name")
        await service.remove(name)
        return answer_json({"id": name, "object": "model", "deleted": True})

    return router


def find_source(service: Service, name: str, bundle: str | None) -> str:
    """Return the source of a bundle; a client may only select by name, never give a path."""
    if bundle is None:
        return service.registry.find(name).source
    if bundle in SHIPPED:
        return bundle
    if bundle.startswith(PREFIX):
        return _find_ready_model(service, bundle)
    folder = service.settings.bundles
    if folder is None:
        raise NotFoundError(
            "this server was started without a folder of bundles (--bundles DIR); leave bundle "
            "out to open the same path again, or write builtin",
            field="bundle",
        )
    if not _FOLDER.fullmatch(bundle):
        raise InputError("bundle must be the plain name of a folder", field="bundle")
    if not (folder / bundle / "bundle.json").is_file():
        raise NotFoundError(f"there is no bundle {bundle!r} to load", field="bundle")
    return str(folder / bundle)


def _find_ready_model(service: Service, bundle: str) -> str:
    """Return a hub's source, where the operator lets clients make the server contact the hub."""
    if not service.settings.allow_pull:
        raise ForbiddenError(
            "this server loads no models from the hub; start it with --allow-pull", field="bundle"
        )
    return str(parse_source(bundle))


def describe_model(name: str, served: Served) -> dict[str, Any]:
    """Return the description of a model for clients."""
    manifest = served.default.encoder.manifest
    return {
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "twinlens",
        "bundle": manifest.name,
        "revision": manifest.revision,
        "embedding_dim": manifest.embedding_dim,
        "dimensions": list_lengths(manifest),
        "any_dimension": manifest.any_dimension,
        "modalities": [
            kind
            for kind, spec in (("image", manifest.image), ("text", manifest.text))
            if spec is not None
        ],
        "precisions": list(served.slots),
        "image_size": [manifest.image.width, manifest.image.height] if manifest.image else [],
        "provider": served.default.encoder.provider,
        "engines": {
            precision: dict(slot.model.encoder.engines) for precision, slot in served.slots.items()
        },
        "similarity": manifest.similarity.kind,
        "templates": list(manifest.templates),
        "has_attention": manifest.attention is not None,
        "card": manifest.extensions.get("card"),
        "calibration": manifest.extensions.get("calibration"),
    }


def _as_cohere(described: dict[str, Any]) -> dict[str, Any]:
    """Return what Cohere's client reads of a model, in a list of its own."""
    return {"name": described["id"], "endpoints": ["embed", "rerank"], "finetuned": False}
