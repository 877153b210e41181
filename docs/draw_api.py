"""Write the reference pages: the Python names by their docstrings, the HTTP paths by OpenAPI.

    python docs/draw_api.py            # writes api.md, http-api.md and http-shapes.md

What must stay true: no sentence stands here that the source does not have, but for each page's
first lines; nothing is listed by hand except which Python names are public.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import twinlens
from docs.draw_routes import read_document
from twinlens import errors
from twinlens.serving.openapi.document import list_operations

FOLDER = Path(__file__).parent
BESIDE = ("twinlens.index.hits.Hit", "twinlens.client.ServerError")  # what the others return, raise
_MADE = "<!-- reference: made by python docs/draw_api.py -->"
_END = "<!-- end of reference -->\n"
_SHAPES = "http-shapes.md"

Schema = dict[str, Any]
Row = tuple[str, ...]


def draw_python() -> str:
    """Return the page of the Python names."""
    names = [name for name in twinlens.__all__ if not name.startswith("_")]
    ordered = [*(n for n in names if n.islower()), *(n for n in names if not n.islower())]
    parts = [_draw_name(f"twinlens.{name}") for name in ordered]
    parts += [_draw_name(name) for name in BESIDE]
    return "\n\n".join([_PYTHON_HEAD, *parts, _draw_errors(), _END])


_PYTHON_HEAD = f"""# Python API

{_MADE}

What `import twinlens` gives, by its docstrings. `Rows` is a float32 array (n, d) of unit length;
an `ImageSource` is a path, encoded bytes, a PIL image or a uint8 array. Introductions:
[the client](client.md), [collections](index.md), [training](training.md)."""


def _draw_name(dotted: str) -> str:
    module, _, name = dotted.rpartition(".")
    thing = getattr(importlib.import_module(module), name)
    shown = name if module == "twinlens" else dotted
    lines = [f"## {shown}", "", f"```text\n{name}{_sign(thing)}\n```", "", _tell(thing)]
    if inspect.isclass(thing):
        lines += ["", *_draw_members(thing)]
    return "\n".join(lines).rstrip()


def _draw_members(owner: type) -> Iterator[str]:
    for name, member in inspect.getmembers(owner):
        if name.startswith("_") or name in vars(Exception):
            continue
        if isinstance(member, property):
            yield f"- `{name}`: {_tell(member, inline=True)}"
        elif inspect.isfunction(member):
            wait = "await " if inspect.iscoroutinefunction(member) else ""
            yield f"- `{wait}{name}{_sign(member, bound=True)}`: {_tell(member, inline=True)}"


def _sign(thing: Any, *, bound: bool = False) -> str:
    """Return a signature without `self` and the quotes of its annotations."""
    found = inspect.signature(thing)
    kept = list(found.parameters.values())[1 if bound else 0 :]
    clean = [p.replace(annotation=_unquote(p.annotation)) for p in kept]
    returns = inspect.Signature.empty if inspect.isclass(thing) else found.return_annotation
    text = str(inspect.Signature(clean, return_annotation=_unquote(returns)))
    return text.replace(" -> None", "")


def _unquote(annotation: Any) -> Any:
    """Return an annotation whose text is printed as it stands in the source."""
    if not isinstance(annotation, str):
        return annotation
    return type("Annotation", (), {"__repr__": lambda _: annotation})()


def _tell(thing: Any, *, inline: bool = False) -> str:
    text = (inspect.getdoc(thing) or "").strip()
    return " ".join(text.split()) if inline else text


def _draw_errors() -> str:
    lines = ["## Errors", "", _tell(errors.TwinlensError), ""]
    lines += ["| `twinlens.errors.` | `code` | meaning |", "|---|---|---|"]
    for name, thing in vars(errors).items():
        if inspect.isclass(thing) and issubclass(thing, errors.TwinlensError):
            lines.append(f"| `{name}` | `{thing.code}` | {_tell(thing, inline=True)} |")
    return "\n".join(lines)


def draw_http(document: Schema) -> str:
    """Return the page of the paths, by topic."""
    topics: defaultdict[str, list[str]] = defaultdict(list)
    for (method, path), operation in list_operations(document).items():
        topics[operation["tags"][-1]].append(_draw_operation(method, path, operation, document))
    parts = [
        part for topic in sorted(topics) for part in (f"## {topic.capitalize()}", *topics[topic])
    ]
    return "\n\n".join([_HTTP_HEAD, *parts, _END])


_HTTP_HEAD = f"""# HTTP API

{_MADE}

Every path, from the OpenAPI document of a server; yours has it at `/docs` and `/openapi.json`.
[Serving](serve.md) explains the paths by example, [shapes](http-shapes.md) lists the objects that
are named here. Errors have the shape [Error](http-shapes.md#error) on every path. With `--keys`,
send `Authorization: Bearer KEY` or `x-api-key: KEY`."""


def _draw_operation(method: str, path: str, operation: Schema, document: Schema) -> str:
    lines = [f"### {method.upper()} {path}", "", " ".join(operation["description"].split())]
    rows: list[Row] = [
        _row(one["name"], one["in"], one["schema"], one["required"], one.get("description", ""))
        for one in operation.get("parameters", [])
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        rows += _draw_body(kind, content["schema"], document)
    if rows:
        lines += ["", *_draw_table(["field", "in", "type", "meaning"], rows)]
    answers = [
        f"{status}: {_answer(told)}"
        for status, told in operation["responses"].items()
        if status != "default"
    ]
    return "\n".join([*lines, "", "Answers " + "; ".join(answers) + "."])


_PLACES = {"application/json": "JSON", "multipart/form-data": "form"}


def _draw_body(kind: str, schema: Schema, document: Schema) -> list[Row]:
    if kind not in _PLACES:
        return [_row("(the body)", f"`{kind}`", {"type": "bytes"}, True, schema["description"])]
    rows = [
        _row(field.name, _PLACES[kind], field.schema, field.is_required, field.meaning)
        for shape in _list_bodies(schema, document)
        for field in list_fields(shape)
    ]
    return list(dict.fromkeys(rows))


def _list_bodies(schema: Schema, document: Schema) -> list[Schema]:
    """Return the shapes that a body may have."""
    if "$ref" in schema:
        return [_find(schema, document)]
    if "properties" in schema:
        return [schema]
    return [shape for one in schema.get("anyOf", []) for shape in _list_bodies(one, document)]


@dataclass(frozen=True)
class Field:
    """A field of a shape; `a.b` is the field `b` of the objects in `a`."""

    name: str
    schema: Schema
    is_required: bool

    @property
    def meaning(self) -> str:
        """What the source says that it means."""
        return str(self.schema.get("description", ""))


def list_fields(schema: Schema, path: str = "") -> Iterator[Field]:
    """Yield the fields of a shape and of objects inside it, but not of named shapes."""
    objects = list(_list_objects(schema))
    found: defaultdict[str, list[Schema]] = defaultdict(list)
    for one in objects:
        for name, field in one["properties"].items():
            if set(tell_type(field).split(" or ")) != {"null"}:
                found[name].append(field)
    for name, fields in found.items():
        field = fields[0] if len(fields) == 1 else _join(fields)
        is_required = all(name in one.get("required", []) for one in objects)
        yield Field(path + name, field, is_required)
        yield from list_fields(field, f"{path}{name}.")


def _join(fields: list[Schema]) -> Schema:
    return {"anyOf": fields, "description": fields[0].get("description", "")}


def _list_objects(schema: Schema) -> Iterator[Schema]:
    """Yield the objects that a value may be or hold in lists."""
    if "properties" in schema:
        yield schema
    inner = [*schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]
    for one in inner:
        yield from _list_objects(one)


def _find(schema: Schema, document: Schema) -> Schema:
    found: Schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _row(name: str, place: str, schema: Schema, required: bool, says: str) -> Row:
    return f"`{name}`", place, _tell_field(schema, required), _cell(says)


def _tell_field(schema: Schema, required: bool) -> str:
    """Return a field's type; what may be left out may be null as well."""
    told = tell_type(schema)
    return told if required else told.removesuffix(" or null") + ", optional"


def _draw_table(heads: list[str], rows: list[Row]) -> list[str]:
    """Return a table without the last column where that is empty in every row."""
    last = len(heads) if any(row[-1] for row in rows) else len(heads) - 1
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(line[:last]) + " |" for line in lines]


def _answer(told: Schema) -> str:
    shapes = [tell_type(content["schema"]) for content in told.get("content", {}).values()]
    named = [shape for shape in dict.fromkeys(shapes) if "](" in shape]
    says = told["description"].rstrip(".")
    return f"{says} ({', '.join(named)})" if named else says


def draw_shapes(document: Schema) -> str:
    """Return the page of the objects that paths take and answer."""
    shapes = sorted(document["components"]["schemas"].items())
    return "\n\n".join([_SHAPES_HEAD, *(_draw_shape(name, shape) for name, shape in shapes), _END])


def _draw_shape(name: str, shape: Schema) -> str:
    says = [_cell(shape["description"]), ""] if "description" in shape else []
    if "properties" not in shape and (told := tell_type(shape)) != "object":
        says += [f"{told[:1].upper()}{told[1:]}.", ""]
    rows: list[Row] = [
        (f"`{field.name}`", _tell_field(field.schema, field.is_required), _cell(field.meaning))
        for field in list_fields(shape)
    ]
    return "\n".join([f"## {name}", "", *says, *_draw_table(["field", "type", "meaning"], rows)])


_SHAPES_HEAD = f"""# Shapes of the HTTP API

{_MADE}

The objects that [paths](http-api.md) take and answer. `a.b` is the field `b` of the objects in `a`.
`limits.NAME` is a [setting of the server](serve.md#every-setting)."""


def tell_type(schema: Schema) -> str:
    """Return in words what a schema allows."""
    for key, tell in _TELL.items():
        if key in schema:
            return tell(schema)
    return "anything"


def _tell_reference(schema: Schema) -> str:
    name = schema["$ref"].rpartition("/")[2]
    return f"[{name}]({_SHAPES}#{name.lower()})"


def _tell_plain(schema: Schema) -> str:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    told = [_tell_kind(kind, schema) for kind in kinds]
    return " or ".join(told)


def _tell_kind(kind: str, schema: Schema) -> str:
    if kind == "array":
        return f"list of {tell_type(schema.get('items', {}))}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of {tell_type(values)}" if isinstance(values, dict) and values else "object"
    if kind in ("integer", "number"):
        return kind + _tell_range(schema)
    return "image" if schema.get("format") == "image" else kind


def _tell_range(schema: Schema) -> str:
    low, high = (f"{schema[key]:,.10g}" if key in schema else "" for key in ("minimum", "maximum"))
    if low and high:
        return f" {low} to {high}"
    return f" from {low}" if low else f" up to {high}" if high else ""


_TELL: dict[str, Callable[[Schema], str]] = {
    "$ref": _tell_reference,
    "const": lambda schema: f"`{schema['const']}`".replace("True", "true"),
    "enum": lambda schema: " or ".join(f"`{value}`" for value in schema["enum"]),
    "anyOf": lambda schema: " or ".join(dict.fromkeys(map(tell_type, schema["anyOf"]))),
    "type": _tell_plain,
}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def draw_pages() -> dict[str, str]:
    """Return the pages by their names."""
    document = read_document()
    return {
        "api.md": draw_python(),
        "http-api.md": draw_http(document),
        _SHAPES: draw_shapes(document),
    }


if __name__ == "__main__":
    for page, text in draw_pages().items():
        (FOLDER / page).write_text(text, encoding="utf-8")
