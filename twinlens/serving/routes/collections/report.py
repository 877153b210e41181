"""`POST /collections/{name}/report`: copies, clusters, a diverse subset or outliers, as a job."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import InputError
from twinlens.serving.background.collection_report import (
    CLUSTERS,
    COPIES,
    COUNTS,
    MOST_CLUSTERS,
    MOST_COUNTED,
    OUTLIERS,
    REPORTS,
    SUBSET,
    ReportJobs,
    ReportRequest,
)
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.openapi.declaration import Name, answer, declare, json_body
from twinlens.serving.openapi.request_shapes import names_of, request_object
from twinlens.serving.openapi.schemas import NULL, TEXT, Schema, component, means, one_of
from twinlens.serving.requests.answers import answer_json
from twinlens.serving.requests.fields import Fields, check_text, parse_object
from twinlens.serving.routes.classifier_shapes import JOB_STARTED
from twinlens.serving.service import Service

_ONLY_FOR = {"similarity": COPIES, "field": OUTLIERS}


def _only_for(name: str, find: str) -> Schema:
    """Return the rule that a member is given for one kind of report alone."""
    return {
        "anyOf": [
            {"properties": {"find": {"const": find}}},
            {"properties": {name: NULL}},
        ]
    }


REQUEST = component(
    "CollectionReport",
    request_object(
        ["find"],
        *(_only_for(name, find) for name, find in _ONLY_FOR.items()),
        {
            "anyOf": [
                {"not": {"properties": {"find": {"const": CLUSTERS}}}},
                {"properties": {"count": {"maximum": MOST_CLUSTERS}}},
            ]
        },
        find=means(one_of(*REPORTS), "What to find"),
        count=means(
            {"type": "integer", "minimum": 1, "maximum": MOST_COUNTED},
            f"Most to return; default: {COUNTS[COPIES]} groups of copies, {COUNTS[SUBSET]} items, "
            f"{COUNTS[OUTLIERS]} outliers, or clusters by the number of items (at most "
            f"{MOST_CLUSTERS})",
        ),
        similarity=means(
            {"type": "number", "minimum": -1, "maximum": 1},
            "Copies only: the least cosine of a copy; default: pixels are compared too",
        ),
        field=means(
            TEXT,
            "Outliers only: find items whose value of this field differs from their neighbours'",
        ),
    ),
)


def build_store_router(service: Service, store: CollectionStore) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["collections"])
    jobs = ReportJobs(service, store)

    @router.post(
        "/collections/{name}/report",
        **declare(
            {202: answer(JOB_STARTED, "A job; its `result` is the report")},
            json_body(
                REQUEST,
                copies={"find": "copies"},
                clusters={"find": "clusters", "count": 2},
                outliers={"find": "outliers", "field": "tone"},
            ),
        ),
    )
    async def report(name: Name, request: Request) -> Response:
        """Find copies, clusters, a diverse subset or outliers as a job (202); changes nothing."""
        call = service.begin(request)
        served = store.find(name)
        async with service.receive(request, call) as body:
            asked = read_request(
                parse_object(body, request.headers.get("content-type", "")),
                service.settings.limits.text_characters,
            )
            job = jobs.start(served, asked)
        return answer_json({"job": job.describe()}, 202)

    return router


def read_request(fields: Fields, longest: int) -> ReportRequest:
    """Return what is asked for."""
    fields.only(*names_of(REQUEST))
    find = fields.text("find", REPORTS)
    if find is None:
        raise InputError(f"find is missing: one of {', '.join(REPORTS)}", field="find")
    for name, kind in _ONLY_FOR.items():
        if fields.has(name) and find != kind:
            raise InputError(f"{name} is for {kind} alone; leave it out", field=name)
    return ReportRequest(
        find,
        fields.integer("count", 1, MOST_CLUSTERS if find == CLUSTERS else MOST_COUNTED),
        fields.number("similarity", -1.0, 1.0),
        check_text(fields.any("field"), "field", longest) if fields.has("field") else None,
    )
