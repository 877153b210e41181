"""`bundle.json`: a bundle's manifest as frozen dataclasses, with conversion from and to JSON.

What must stay true: a manifest that parses is complete and consistent; its paths are relative and
stay inside the bundle. `store` checks the files against it (hashes) and `session` the towers
(shapes).
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from twinlens.errors import BundleError

FORMAT = 1
KNOWN_FORMATS = (1,)
# Extensions with `required: true` that this version supports; a bundle with others is refused.
OBEYED_EXTENSIONS: frozenset[str] = frozenset({"prompts"})
MANIFEST_NAME = "bundle.json"


@dataclass(frozen=True)
class ImageSpec:
    """The image tower: uint8 pixels (n, height, width, 3) in, unit rows (n, d) out.

    `mean` and `std` are applied inside the graph; here they are informative.
    """

    file: str
    height: int
    width: int
    resize: Literal["shortest", "longest", "squash"]  # which side becomes `resize_to`; longest pads
    resize_to: int  # side in pixels before the centre crop
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fill: int = 0  # grey level of the padding
    channels: Literal["rgb"] = "rgb"
    # When CMYK, alpha or palette become RGB: before the resize for timm, after it for open_clip.
    convert: Literal["before_resize", "after_resize"] = "before_resize"
    # How half a pixel at the start of the crop is rounded: torchvision rounds, transformers cuts.
    crop: Literal["round", "floor"] = "round"


@dataclass(frozen=True)
class TextSpec:
    """The text tower: int64 tokens (n, length) in, unit rows (n, d) out."""

    file: str
    tokenizer: str
    tokenizer_kind: Literal["clip", "huggingface"]
    context_length: int
    pad_id: int = 0
    # The cleaning before a `huggingface` tokenizer; kind `clip` always cleans as `lower`.
    clean: Literal["none", "whitespace", "lower", "canonicalize"] = "none"
    cut_to_longest: bool = (
        False  # True only if the export verified that padding cannot change an embedding
    )
    padding_reason: str = ""  # why texts are padded to the full context, if they are


@dataclass(frozen=True)
class SimilaritySpec:
    """The similarity node: embeddings (n, d) and a class bank (m, d) in, scores (n, m) out."""

    kind: Literal["softmax", "sigmoid"]
    scale: float
    bias: float
    file: str


@dataclass(frozen=True)
class Variant:
    """One tower at one precision, with its cosine and speed against fp32 from the export."""

    tower: Literal["image", "text"]
    precision: Literal["fp32", "int8", "fp16", "bf16"]
    file: str
    cosine: float  # smallest over the golden inputs, to fp32
    speed: float  # items per second, as a ratio to fp32


@dataclass(frozen=True)
class AttentionSpec:
    """A second graph over the same weights; `attention` is (n, heads, rows, columns)."""

    file: str
    heads: int
    rows: int
    columns: int


@dataclass(frozen=True)
class FileEntry:
    """One file of the bundle: path inside it, size, hash."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of `bundle.json`. `revision` is the identity of the bundle's embeddings."""

    name: str
    embedding_dim: int
    similarity: SimilaritySpec
    image: ImageSpec | None = None
    text: TextSpec | None = None
    matryoshka_dims: tuple[int, ...] = ()
    any_dimension: bool = False
    variants: tuple[Variant, ...] = ()
    attention: AttentionSpec | None = None
    templates: tuple[str, ...] = ("{}",)
    provenance: dict[str, Any] = field(default_factory=dict)
    # Additions by name, each an object: readers ignore unknown ones. One that affects embeddings
    # or scores has `required: true` and is part of the revision (decision 0005).
    extensions: dict[str, Any] = field(default_factory=dict)
    files: tuple[FileEntry, ...] = ()
    revision: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Raise if the manifest is inconsistent."""
        if self.image is None and self.text is None:
            raise BundleError(
                "bundle.json: neither `image` nor `text` is set; a bundle needs a tower"
            )
        if self.embedding_dim < 1:
            raise BundleError(
                f"bundle.json: embedding_dim is {self.embedding_dim}; it must be at least 1"
            )
        over = [d for d in self.matryoshka_dims if not 1 <= d <= self.embedding_dim]
        if over:
            raise BundleError(
                f"bundle.json: matryoshka_dims {over} are not within 1 and {self.embedding_dim}"
            )
        for template in self.templates:
            if template.count("{}") != 1:
                raise BundleError(f"bundle.json: template {template!r} must hold {{}} exactly once")
        for entry in self.files:
            check_path(entry.path)
        for name, value in self.extensions.items():
            _check_extension(name, value)

    @property
    def required_extensions(self) -> dict[str, Any]:
        """The extensions that affect embeddings or scores."""
        return {name: value for name, value in self.extensions.items() if value.get("required")}

    def list_graphs(self, tower: str) -> dict[str, str]:
        """Return a tower's files by precision; the first is the reference of the others."""
        spec = self.image if tower == "image" else self.text
        assert spec is not None
        found: dict[str, str] = {v.precision: v.file for v in self.variants if v.tower == tower}
        own = next((name for name, file in found.items() if file == spec.file), "fp32")
        return {own: spec.file, **found}

    def to_json(self) -> str:
        """Return the text of `bundle.json`; equal manifests give equal bytes."""
        fields = dataclasses.asdict(self)
        if self.image is not None and self.image.crop == "round":
            del fields["image"]["crop"]  # older versions must read the bundle too
        return json.dumps(fields, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _check_extension(name: str, value: object) -> None:
    """Refuse an extension that is no object, or a required one that is unknown here."""
    if not isinstance(value, dict):
        raise BundleError(f"bundle.json: extensions.{name} is {value!r}; expected an object")
    required = value.get("required", False)
    if not isinstance(required, bool):
        raise BundleError(
            f"bundle.json: extensions.{name}.required is {required!r}; expected true or false"
        )
    if required and name not in OBEYED_EXTENSIONS:
        raise BundleError(
            f"bundle.json: extension {name!r} affects the embeddings and is unknown to this version"
            " of twinlens; install a newer one"
        )


def check_path(path: str) -> str:
    """Return `path` if it is a plain relative path inside the bundle, else raise."""
    pure = PurePosixPath(path)
    if (
        not path
        or pure.is_absolute()
        or ".." in pure.parts
        or "\\" in path
        or ":" in path
        or "\0" in path
    ):
        raise BundleError(
            f"bundle.json: path {path!r} leaves the bundle; only plain relative paths are allowed"
        )
    return path


def parse_manifest(text: str) -> Manifest:
    """Return the manifest in `text`; raise a `BundleError` naming a faulty field."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise BundleError(f"bundle.json is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise BundleError("bundle.json does not hold an object")
    number = raw.get("format")
    if number not in KNOWN_FORMATS:
        known = ", ".join(map(str, KNOWN_FORMATS))
        raise BundleError(
            f"bundle.json: format {number!r} is unknown; this version reads format {known}"
        )
    manifest: Manifest = _build(Manifest, raw, "")
    return manifest


def _build(cls: type[Any], raw: Any, where: str) -> Any:
    """Build the dataclass `cls` from parsed JSON, field by field."""
    if not isinstance(raw, dict):
        raise BundleError(f"bundle.json: {where or 'the manifest'} is {raw!r}; expected an object")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(raw) - set(fields))
    if unknown:
        raise BundleError(
            f"bundle.json: unknown field {_join(where, unknown[0])!r}; known: {sorted(fields)}"
        )
    values = {}
    for name, spec in fields.items():
        if name in raw:
            values[name] = _convert(raw[name], hints[name], _join(where, name))
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise BundleError(f"bundle.json: field {_join(where, name)!r} is missing")
    return cls(**values)


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Check `value` against the type `hint` and return it in that type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _convert(value, args[0], where)
    if origin is Literal:
        if value not in args:
            raise BundleError(f"bundle.json: {where} is {value!r}; expected one of {list(args)}")
        return value
    if origin is tuple:
        return _convert_tuple(value, args, where)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast("type[Any]", hint), value, where)
    kind = origin or hint
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BundleError(f"bundle.json: {where} is {value!r}; expected {kind.__name__}")
    return value


def _convert_tuple(value: Any, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    """Check a JSON list against tuple[X, ...] or tuple[X, Y, Z]."""
    if not isinstance(value, list):
        raise BundleError(f"bundle.json: {where} is {value!r}; expected a list")
    kinds = (args[0],) * len(value) if args[-1] is Ellipsis else args
    if len(kinds) != len(value):
        raise BundleError(f"bundle.json: {where} has {len(value)} entries; expected {len(kinds)}")
    return tuple(
        _convert(item, kind, f"{where}[{i}]")
        for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
