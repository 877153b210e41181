"""`POST /similarity`: cosines of pairs, or of every item of one list with every item of another."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import InputItem, read_item
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.endpoint import Endpoint
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

PATHS = ("/similarity",)


def build_endpoint(service: Service) -> Endpoint:
    """Return the handler of this file's paths."""

    async def similarity(request: Request) -> Response:
        """Compare texts and images in any combination."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            fields.only("model", "precision", "pairs", "left", "right")
            lease = service.registry.lease(fields.text("model"), fields.text("precision"))
            with lease as model:
                return await _answer(service, model, fields, call)

    return similarity


async def _answer(service: Service, model: ServedModel, fields: Fields, call: Call) -> Response:
    limits = service.settings.limits
    if fields.has("pairs") and (fields.has("left") or fields.has("right")):
        raise InputError("give pairs, or left and right, but not both", field="pairs")
    if fields.has("pairs"):
        items, names = _read_pairs(fields, limits)
        rows, _ = await embed_all_or_fail(service, model, items, names, call)
        values = (rows[0::2] * rows[1::2]).sum(axis=1)
    else:
        left, left_names = _read_side(fields, "left", limits)
        right, right_names = _read_side(fields, "right", limits)
        if len(left) + len(right) > limits.items:
            raise InputError(f"left and right hold more than {limits.items} items", field="left")
        names = [*left_names, *right_names]
        rows, _ = await embed_all_or_fail(service, model, [*left, *right], names, call)
        values = rows[: len(left)] @ rows[len(left) :].T
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
