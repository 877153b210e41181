"""`POST /similarity`: cosines of pairs, or of every item of one list with every item of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import PICTURE, answer, declare, json_body
from twinlens.serving.openapi.request_shapes import (
    either_group,
    names_of,
    not_both,
    request_object,
)
from twinlens.serving.openapi.schemas import (
    MODEL,
    NUMBERS,
    PRECISION,
    REVISION,
    USED_MODEL,
    array_of,
    closed_object,
    component,
    either,
    means,
)
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import ITEM, InputItem, read_item
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

REQUEST = component(
    "SimilarityRequest",
    request_object(
        [],
        either_group(("pairs",), ("left", "right")),
        not_both("pairs", "left"),
        not_both("pairs", "right"),
        pairs=means(
            array_of(array_of(ITEM, minItems=2, maxItems=2), minItems=1),
            "Pairs of items to compare; at most half of `limits.items`",
        ),
        left=means(
            array_of(ITEM, minItems=1),
            "Items to compare with each of `right`; both together at most `limits.items`",
        ),
        right=means(array_of(ITEM, minItems=1), "Items to compare with each of `left`"),
        model=MODEL,
        precision=PRECISION,
    ),
)
ANSWER = component(
    "SimilarityAnswer",
    closed_object(
        ["similarities", "model", "revision"],
        similarities=means(
            either(NUMBERS, array_of(NUMBERS)),
            "A cosine for each pair; or, for each item of `left`, one for each of `right`",
        ),
        model=USED_MODEL,
        revision=REVISION,
    ),
)


@dataclass(frozen=True)
class SimilarityRequest:
    """A request to `/similarity`."""

    items: Sequence[InputItem]
    names: Sequence[str]
    left: int | None  # how many of the items are on the left; None: they are pairs


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["similarity"], route_class=HotRoute)

    @router.post(
        "/similarity",
        summary="Compare texts and images in any combination",
        **declare(
            {200: answer(ANSWER, "Cosines")},
            json_body(
                REQUEST,
                pairs={"pairs": [["red", {"image": PICTURE}]]},
                matrix={"left": ["red", "green"], "right": [{"image": PICTURE}, "blue"]},
            ),
        ),
    )
    async def similarity(request: Request) -> Response:
        """Compare texts and images in any combination."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            parsed = read_request(fields, service.settings.limits)
            lease = service.registry.lease(fields.text("model"), fields.text("precision"))
            with lease as model:
                return await _answer(service, model, parsed, call)

    return router


def read_request(fields: Fields, limits: Limits) -> SimilarityRequest:
    """Return the items of both forms: pairs, or two lists."""
    fields.only(*names_of(REQUEST))
    if fields.has("pairs"):
        if fields.has("left") or fields.has("right"):
            raise InputError("give pairs, or left and right, but not both", field="pairs")
        return SimilarityRequest(*_read_pairs(fields, limits), None)
    left, left_names = _read_side(fields, "left", limits)
    right, right_names = _read_side(fields, "right", limits)
    if len(left) + len(right) > limits.items:
        raise InputError(f"left and right hold more than {limits.items} items", field="left")
    return SimilarityRequest([*left, *right], [*left_names, *right_names], len(left))


async def _answer(
    service: Service, model: ServedModel, parsed: SimilarityRequest, call: Call
) -> Response:
    rows, _ = await embed_all_or_fail(service, model, parsed.items, parsed.names, call)
    if parsed.left is None:
        values = (rows[0::2] * rows[1::2]).sum(axis=1)
    else:
        values = rows[: parsed.left] @ rows[parsed.left :].T
    body = {"similarities": values, "model": model.name, "revision": model.revision}
    return service.reply(dump(body), model, call)


def _read_pairs(fields: Fields, limits: Limits) -> tuple[list[InputItem], list[str]]:
    items, names = [], []
    for i, pair in enumerate(fields.values("pairs", limits.items // 2) or []):
        if not isinstance(pair, list) or len(pair) != 2:
            raise InputError(f"pairs[{i}] must be a list of two items", field=f"pairs[{i}]")
        for j, value in enumerate(pair):
            names.append(f"pairs[{i}][{j}]")
            items.append(read_item(value, names[-1], limits.text_characters))
    return items, names


def _read_side(fields: Fields, side: str, limits: Limits) -> tuple[list[InputItem], list[str]]:
    values = fields.values(side, limits.items)
    if values is None:
        raise InputError("give pairs, or left and right", field=side)
    names = [f"{side}[{i}]" for i in range(len(values))]
    longest = limits.text_characters
    return [read_item(v, n, longest) for v, n in zip(values, names, strict=True)], names
