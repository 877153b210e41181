"""Prompts by the purpose of a text: the prefix that a model was trained to see before it.

They are the bundle's extension `prompts`: `by_purpose` maps query, document, classification and
clustering to prefixes, `default` precedes texts without a purpose. What must stay true: the library
and the server add the same prefix, and a bundle without the extension adds none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twinlens.bundle.manifest import Manifest
from twinlens.errors import BundleError, InputError

PURPOSES: Final = ("query", "document", "classification", "clustering")
# The names of public protocols; a picture's caption has no purpose of its own.
_SYNONYMS: Final = {
    "search_query": "query",
    "search_document": "document",
    "passage": "document",
    "image": "",
}

INPUT_TYPES: Final = (*PURPOSES, *_SYNONYMS)


def find_prompt(manifest: Manifest, input_type: str | None) -> str:
    """Return the prefix for texts of this type; raise for an unknown type."""
    purpose = _SYNONYMS.get(input_type or "", input_type or "")
    if purpose and purpose not in PURPOSES:
        known = ", ".join(INPUT_TYPES)
        raise InputError(
            f"input_type {input_type!r} is unknown; choose from {known}", field="input_type"
        )
    extension = manifest.extensions.get("prompts")
    if extension is None:
        return ""
    prompts, default = _read(extension)
    return prompts.get(purpose, default)


def add_prompt(
    manifest: Manifest, texts: Sequence[str], input_type: str | None = None
) -> Sequence[str]:
    """Return the texts after their prefix; the tokenizer will refuse values that are no texts."""
    prefix = find_prompt(manifest, input_type)
    if not prefix or isinstance(texts, str):
        return texts
    return [prefix + text if isinstance(text, str) and text else text for text in texts]


def require_prompt(manifest: Manifest, name: str) -> None:
    """Raise unless the bundle has a prompt of this name."""
    extension = manifest.extensions.get("prompts")
    known = sorted(_read(extension)[0]) if extension is not None else []
    if _SYNONYMS.get(name, name) not in known:
        has = f"has prompts for {', '.join(known)}" if known else "has no prompts; leave it out"
        raise InputError(f"prompt_name is {name[:40]!r}; this bundle {has}", field="prompt_name")


def _read(extension: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Return the prefixes by purpose, and the one for texts without a purpose."""
    prompts, default = extension.get("by_purpose"), extension.get("default", "")
    if not isinstance(prompts, dict) or not isinstance(default, str):
        raise BundleError(
            f"bundle.json: extensions.prompts is {extension!r}; expected `by_purpose`, an object, "
            "and `default`, a string"
        )
    bad = [name for name, value in prompts.items() if not isinstance(value, str)]
    if bad:
        raise BundleError(f"bundle.json: extensions.prompts.by_purpose.{bad[0]} is not a string")
    return prompts, default
