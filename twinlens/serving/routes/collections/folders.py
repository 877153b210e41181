"""`/folders`, `POST /collections/{name}/folders`: add a folder of this machine to a collection."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import TwinlensError
from twinlens.serving.background.folder_intake import FolderJobs, require_local
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.openapi.declaration import Name, answer, declare, json_body
from twinlens.serving.openapi.request_shapes import names_of, request_object
from twinlens.serving.openapi.schemas import (
    FLAG,
    STRING,
    TEXT,
    array_of,
    closed_object,
    component,
    means,
)
from twinlens.serving.requests.answers import answer_json
from twinlens.serving.requests.fields import check_text, parse_object
from twinlens.serving.requests.query_terms import COLLECTION_MODEL
from twinlens.serving.routes.classifier_shapes import JOB_STARTED
from twinlens.serving.routes.search import model_for
from twinlens.serving.service import Service

LONGEST_PATH = 4096
REQUEST = component(
    "NewFolder",
    request_object(
        ["path"],
        path=means(TEXT, "Folder on the server's machine, inside one that `--allow-folder` names"),
        model=COLLECTION_MODEL,
    ),
)
FOLDERS = component(
    "Folders",
    closed_object(
        ["object", "allowed", "roots"],
        object={"const": "folders"},
        allowed=means(FLAG, "Whether this client may add folders; only on the server's machine"),
        roots=means(array_of(STRING), "The folders of `--allow-folder`; empty if not allowed"),
    ),
)


def build_store_router(service: Service, store: CollectionStore) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["collections"])
    jobs = FolderJobs(service, store)

    @router.get(
        "/folders", **declare({200: answer(FOLDERS, "Whether it is allowed, and from where")})
    )
    async def get_folders(request: Request) -> Response:
        """Return whether this client may add folders of the server's machine, and from where."""
        service.authorize(request, "write")
        try:
            _check(request)
            roots = jobs.roots
        except TwinlensError:
            roots = ()
        told = {"object": "folders", "allowed": bool(roots), "roots": list(roots)}
        return answer_json(told)

    @router.post(
        "/collections/{name}/folders",
        **declare(
            {202: answer(JOB_STARTED, "A job that adds them; its `result` lists what failed")},
            json_body(REQUEST),
        ),
    )
    async def add_folder(name: Name, request: Request) -> Response:
        """Add the pictures of a folder on this machine as a job (202), if that is allowed."""
        call = service.begin(request, "write")
        async with service.receive(request, call) as body:
            _check(request)
            fields = parse_object(body, request.headers.get("content-type", ""))
            fields.only(*names_of(REQUEST))
            path = check_text(fields.any("path"), "path", LONGEST_PATH)
            served = store.find(name)
            model = model_for(service, served, fields.text("model"))
            job = jobs.start(served, path, model)
        return answer_json({"job": job.describe()}, 202)

    return router


def _check(request: Request) -> None:
    server = request.scope.get("server") or ("", 0)
    client = request.client.host if request.client else None
    require_local(client, str(server[0]), request.headers)
