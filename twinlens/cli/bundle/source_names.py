"""Refuses a misspelt SOURCE of `twinlens export` by its name alone, with the nearest names.

What must stay true: neither torch nor a library of models is imported. Their names are read from
their files: open_clip has one configuration each, timm a marked function. A library that is not
installed refuses nothing here: the export itself says what it needs.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import twinlens
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.bundle.pull.source import Source

_MODEL: Final = re.compile(r"@register_model\s*\n(?:@.*\n)*def (\w+)")
_FORMER: Final = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\}\)", re.DOTALL)
_KEY: Final = re.compile(r"['\"](\w+)['\"]\s*:")
_RUN_FILE: Final = "config.json"
_FOLDER_FILE: Final = "open_clip_config.json"


def check_source(source: str) -> None:
    """Raise an `InputError` for a SOURCE that names no model that can be exported."""
    kind, colon, rest = source.partition(":")
    if not colon or Path(source).is_dir():
        _check_run(source)
        return
    kinds = list_kinds()
    if kind not in kinds:
        known = ", ".join(f"{name}:..." for name in kinds)
        raise InputError(
            f"source {source!r}: no kind {kind!r}{_suggest(kind, kinds)}; give one of {known}, or "
            "the folder of a training run",
            field="source",
        )
    if not rest:
        raise InputError(
            f"source {source!r} names no model; for example open_clip:ViT-B-32 or timm:resnet50",
            field="source",
        )
    check = _CHECKS.get(kind)
    if check is not None:
        check(rest)


def find_weights(source: str) -> Source | None:
    """Return the transformers model that SOURCE names, on a hub or in a folder; None for others."""
    if not source.startswith("hf:") and not _is_transformers_folder(Path(source)):
        return None
    from twinlens.bundle.pull.source import parse_source

    found = parse_source(source)
    if found is not None and len(found.places) != 1:
        raise InputError(f"source {source!r} names two repositories; give one", field="source")
    return found


def _is_transformers_folder(folder: Path) -> bool:
    """Whether a folder holds safetensors beside the config.json of a transformers model."""
    config = folder / _RUN_FILE
    if not config.is_file() or not list(folder.glob("*.safetensors")):
        return False
    try:
        return "model_type" in json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return False


def list_kinds() -> list[str]:
    """Return the kinds of source that the export has, by its files."""
    folder = Path(twinlens.__file__).parent / "training" / "export" / "sources"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def list_open_clip() -> list[str]:
    """Return the architectures of the installed open_clip; none where it is not installed."""
    folder = _find_package("open_clip")
    if folder is None:
        return []
    return sorted(path.stem for path in (folder / "model_configs").glob("*.json"))


def list_timm() -> list[str]:
    """Return the models of the installed timm, former names too; none without timm."""
    folder = _find_package("timm")
    names: set[str] = set()
    for path in (folder / "models").glob("*.py") if folder else ():
        text = path.read_text(encoding="utf-8")
        names.update(_MODEL.findall(text))
        for block in _FORMER.findall(text):
            names.update(_KEY.findall(block))
    return sorted(names)


def _check_run(source: str) -> None:
    """Refuse what is no folder of a training run."""
    folder = Path(source)
    if not folder.is_dir():
        names = [*(f"open_clip:{name}" for name in list_open_clip()), *list_kinds()]
        names += [f"timm:{name}" for name in list_timm()]
        bare = {name.partition(":")[2] or name: name for name in names}
        near = difflib.get_close_matches(source.replace("/", "-"), bare, 2)
        raise InputError(
            f"source {source!r} is not a folder and has no kind"
            f"{_join([bare[name] for name in near])}; give open_clip:ARCH, timm:NAME, or the "
            "folder of a training run",
            field="source",
        )
    if not (folder / _RUN_FILE).is_file():
        kind = "open_clip:local-dir:" if (folder / _FOLDER_FILE).is_file() else ""
        remedy = f"give {kind}{source}" if kind else "give the folder that `twinlens train` wrote"
        raise InputError(
            f"{source} is not a training run: it has no {_RUN_FILE}; {remedy}", field="source"
        )


def _check_open_clip(rest: str) -> None:
    """Refuse an architecture that open_clip does not know, and a folder without its file."""
    schema, colon, place = rest.partition(":")
    if colon and schema == "local-dir" and not (Path(place) / _FOLDER_FILE).is_file():
        raise InputError(f"open_clip:{rest}: no {_FOLDER_FILE} in that folder", field="source")
    # Where open_clip is loaded already, a program may have added architectures to it.
    if (colon and schema in ("hf-hub", "local-dir")) or "open_clip" in sys.modules:
        return
    known, parts = list_open_clip(), rest.split("/")
    if known and not any("-".join(parts[: i + 1]) in known for i in range(len(parts))):
        raise InputError(
            f"open_clip has no architecture {parts[0]!r}{_suggest(parts[0], known)}", field="source"
        )


def _check_timm(rest: str) -> None:
    """Refuse a model that timm does not know."""
    name = rest.partition("/")[0].partition(".")[0]
    known = list_timm()
    if known and name not in known and "timm" not in sys.modules:
        raise InputError(f"timm has no model {name!r}{_suggest(name, known)}", field="source")


def _suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` with the nearest of `known`, whatever their case, or nothing."""
    folded = {other.lower(): other for other in known}
    return _join([folded[key] for key in difflib.get_close_matches(name.lower(), folded, 3)])


def _join(names: list[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _find_package(name: str) -> Path | None:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


_CHECKS: Final[dict[str, Callable[[str], None]]] = {
    "open_clip": _check_open_clip,
    "run": _check_run,
    "timm": _check_timm,
}
