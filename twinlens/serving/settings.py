"""All settings of a server in one frozen object, built once at startup and passed down.

Other code reads values from here, never from the environment. docs/serve.md lists every field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from twinlens.bundle.image.image_source import FORMATS
from twinlens.errors import InputError
from twinlens.serving.keys import Key

MIB = 1024 * 1024
_INTEGER_LISTS = ("fetching.ports", "batching.text_buckets")
_FORMATS = tuple(map(str.lower, FORMATS))
_AT_LEAST_ONE = (
    "limits.head_bytes",
    "limits.head_fields",
    "limits.items",
    "limits.video_frames",
    "limits.texts",
    "limits.request_characters",
    "limits.image_pixels",
    "limits.request_pixels",
    "limits.requests_in_flight",
    "batching.text_buckets",
    "watch.failures_in_a_row",
    "fetching.ports",
)
_ABOVE_ZERO = (
    "limits.head_seconds",
    "limits.video_seconds",
    "limits.request_seconds",
    "limits.body_seconds",
    "watch.interval",
)


@dataclass(frozen=True)
class Limits:
    """Limits of a request; each is checked before the work that it bounds."""

    head_bytes: int = 32 * 1024  # request line and headers
    head_fields: int = 100
    head_seconds: float = 10.0  # to receive a head
    body_bytes: int = 32 * MIB
    items: int = 256  # images of a request, and pairs
    texts: int = 2048  # of a request
    classes: int = 2048  # per request; a stored classifier may hold more
    stored_classes: int = 20_000
    templates: int = 128
    prompts: int = 4096  # classes x templates that one request may build
    image_bytes: int = 16 * MIB
    video_seconds: float = 600.0  # of one video
    video_frames: int = 256  # of one video that are embedded
    image_pixels: int = 50_000_000
    formats: tuple[str, ...] = _FORMATS  # accepted image formats
    request_pixels: int = 200_000_000
    text_characters: int = 8192
    request_characters: int = 4_000_000  # of all texts: tokenizing them takes a second or two
    requests_in_flight: int = 256
    key_requests_per_minute: int = 0  # of one API key; 0: any number
    bytes_in_flight: int = 256 * MIB  # bodies held at once, over all requests
    image_queue: int = 256  # items between acceptance and answer, per bundle
    text_queue: int = 4096
    request_seconds: float = 30.0
    body_seconds: float = 30.0  # to receive a body
    body_rate: float = 1024.0  # least bytes a second of a body, over five seconds


@dataclass(frozen=True)
class Batching:
    """How items become batches. With a window of zero, items queue only while a batch runs."""

    image_batch: int = 0  # 0: as measured for the tower on its device
    text_batch: int = 0
    text_buckets: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512)
    window_seconds: float = 0.0
    target_seconds: float = 0.1  # for waiting and running together, if there is a window
    decode_threads: int = 0  # 0: one per core
    cache_bytes: int = 64 * MIB  # text embeddings
    large_seconds: float = 0.05  # of work: a request of several batches that costs more is large


@dataclass(frozen=True)
class Watch:
    """When a worker counts as dead, and how long a shutdown may take."""

    interval: float = 0.5
    stall_seconds: float = 60.0
    failures_in_a_row: int = 3
    drain_notice: float = 1.0  # /readyz answers 503 for this long before the socket closes
    drain_seconds: float = 20.0


@dataclass(frozen=True)
class Fetching:
    """Whether and how images may be fetched from URLs."""

    enabled: bool = False
    hosts: tuple[str, ...] = ()  # empty: any public host
    ports: tuple[int, ...] = (80, 443)
    redirects: int = 3
    seconds: float = 10.0


@dataclass(frozen=True)
class ServerSettings:
    """One server."""

    limits: Limits = field(default_factory=Limits)
    batching: Batching = field(default_factory=Batching)
    watch: Watch = field(default_factory=Watch)
    fetching: Fetching = field(default_factory=Fetching)
    data: Path | None = None  # keeps classifiers, jobs and collections over restarts
    bundles: Path | None = None  # folder from which an admin may load bundles by name
    runs: Path | None = None  # folder of training runs whose numbers are shown
    allow_pull: bool = False  # an admin may load ready models, which contacts the hub
    folders: tuple[str, ...] = ()  # from which a client on this machine may add pictures
    keys: tuple[Key, ...] = ()  # none: anyone reads and writes, admin endpoints are disabled
    hosts: tuple[str, ...] = ()  # allowed Host names; none: any, but only its own names on loopback
    cors_origins: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()  # NAME=MODEL: names that clients have built in
    precisions: tuple[str, ...] = ("fp32",)  # the first is the default
    log_format: str = "text"  # or "json"
    log_requests: bool = True
    tracing: bool = False  # OpenTelemetry


def override(settings: ServerSettings, name: str, value: str) -> ServerSettings:
    """Return settings with one field set from text: `limits.items=64`, `log_format=json`."""
    if name not in list_names(settings):
        raise _unknown(name)
    part, _, rest = name.partition(".")
    group: Any = getattr(settings, part)
    if rest:
        changed = replace(group, **{rest: _convert(name, getattr(group, rest), value)})
    else:
        changed = _convert(name, group, value)
    changes: dict[str, Any] = {part: changed}
    return replace(settings, **changes)


def read_value(settings: ServerSettings, name: str) -> Any:
    """Return the value of a field by the name that `list_names` gives."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def list_names(settings: ServerSettings) -> list[str]:
    """Return every field that `override` can set."""
    names = []
    for field_ in fields(settings):
        value = getattr(settings, field_.name)
        if is_dataclass(value):
            names += [f"{field_.name}.{inner.name}" for inner in fields(value)]
        elif field_.name not in ("keys", "data", "bundles", "runs"):
            names.append(field_.name)
    return names


def _convert(name: str, old: Any, text: str) -> Any:
    """Return `text` converted to the field's type."""
    if isinstance(old, bool):
        if text.lower() not in ("true", "false"):
            raise InputError(f"{name} is {text!r}; it must be true or false", field=name)
        return text.lower() == "true"
    if isinstance(old, tuple):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return tuple(_convert(name, 0 if name in _INTEGER_LISTS else "", part) for part in parts)
    if isinstance(old, str):
        if name == "limits.formats" and text not in _FORMATS:
            known = ", ".join(_FORMATS)
            raise InputError(f"{name} holds {text!r}; choose from {known}", field=name)
        return text
    return _convert_number(name, old, text)


def _convert_number(name: str, old: float, text: str) -> float:
    """Return a number that is valid for the setting."""
    wanted = "a whole number" if isinstance(old, int) else "a number"
    least = 1 if name in _AT_LEAST_ONE else 0
    try:
        value = type(old)(text)
    except ValueError:
        raise InputError(f"{name} is {text!r}; it must be {wanted}", field=name) from None
    if not least <= value < math.inf or (name in _ABOVE_ZERO and not value):
        bound = "above 0" if name in _ABOVE_ZERO else f"of at least {least}"
        raise InputError(f"{name} is {text!r}; it must be {wanted} {bound}", field=name)
    return value


def _unknown(name: str) -> InputError:
    close = get_close_matches(name, list_names(ServerSettings()), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return InputError(f"{name!r} is not a setting{hint} (docs/serve.md lists them)", field=name)
