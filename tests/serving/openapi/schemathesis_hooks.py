"""What schemathesis has to know of this server; it imports this file by SCHEMATHESIS_HOOKS.

An image is a string or bytes as far as a schema can say; here it is made one that decodes. The
check `accepted` replaces `positive_data_acceptance`: it forgives a refusal only for what depends on
the state of the server or the content of a value, which no schema expresses.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image

# Param or code of an error -> what no schema can say of it.
DEPENDS = {
    "dimensions": "the lengths that a bundle was trained for",
    "precision": "the precisions that are loaded",
    "collection": "how many collections there are",
    "filter": "the grammar of filters",
    "head": "the heads of a bundle's attention",
    "duplicate_class": "whether two classes have one name",
    "entries": "JSON within a field of a form",
    "token_ids": "whether a vocabulary lies on the machine",
    "query[0]": "the length of a collection's embeddings",
    "vector_mismatch": "the length of a collection's embeddings",
    "image_decode_failed": "whether bytes are an image",
    "frames": "seconds or a word",
    "url_not_allowed": "whether a text is a URL",
}


def _encode(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), colour).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [_encode(colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
URIS = ["data:image/png;base64," + base64.b64encode(picture).decode() for picture in PICTURES]

schemathesis.openapi.format("image", st.sampled_from(URIS))
# No video: FFmpeg's libraries refuse it, which is `image_decode_failed`.
schemathesis.openapi.media_type(
    "video/*", st.sampled_from([b"\0\0\0\x18ftypmp42"]), aliases=["video/mp4"]
)
schemathesis.openapi.media_type("image/*", st.sampled_from(PICTURES), aliases=["image/png"])


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out forms that are wrong in a type: in a form everything is text."""
    is_form = case.media_type == "multipart/form-data"
    return not (is_form and case.meta is not None and case.meta.generation.mode.is_negative)


@schemathesis.check
def accepted(ctx: Any, response: Any, case: Any) -> None:
    """Fail where a request that the document allows is refused for a reason that it could say."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive:
        return
    if response.status_code not in (400, 405, 413, 415, 422):
        return
    error = response.json()["error"]
    param = (error["param"] or "").rpartition(".")[2]
    if param not in DEPENDS and error["code"] not in DEPENDS:
        raise AssertionError(f"{response.status_code}: {error}")
