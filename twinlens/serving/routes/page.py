"""`GET /`, `/docs`: the web page and the API's description.

Plain files of the package, read once, served with a strict content security policy.

What must stay true: only files that the package held at start are served; the policy allows no
inline script or style and no other origin, so metadata that looks like markup stays text; the page
needs no network besides the server.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import NotFoundError
from twinlens.serving.openapi.declaration import answer_of, declare
from twinlens.serving.service import Service

INDEX = "index.html"
DOCS = "docs.html"
# Trusted types make the browser itself refuse strings where markup is expected.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFile:
    """One file of the page as it is served."""

    content: bytes
    media: str
    tag: str


def read_page() -> dict[str, PageFile]:
    """Return the files of the page by name."""
    found = {}
    for entry in files("twinlens.serving").joinpath("page").iterdir():
        media = _TYPES.get(entry.name.rpartition(".")[2])
        if media is not None:
            content = entry.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            found[entry.name] = PageFile(content, media, tag)
    return found


def build_router(_: Service) -> APIRouter:
    """Return the router of this file; OpenAPI has the path that others answer too."""
    router = APIRouter(tags=["page"])
    page = read_page()

    @router.get(
        "/",
        include_in_schema=True,
        **declare({200: answer_of("text/html", "The page")}, is_open=True),
    )
    async def index(request: Request) -> Response:
        """Answer the page of this server."""
        return _answer(page[INDEX], request)

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        """Answer the API documentation, rendered from /openapi.json."""
        return _answer(page[DOCS], request)

    @router.get("/page/{name}", include_in_schema=False)
    async def part(name: str, request: Request) -> Response:
        """Answer a script, the style sheet or the icon."""
        if name not in page:
            raise NotFoundError(f"the page has no file {name[:40]!r}", field="name")
        return _answer(page[name], request)

    return router


def _answer(file: PageFile, request: Request) -> Response:
    """Answer a file, or 304 if the browser's copy is current; browsers revalidate each time."""
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-cache",
        "ETag": file.tag,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }
    known = [tag.strip().removeprefix("W/") for tag in _header(request).split(",")]
    if file.tag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media, headers=headers)


def _header(request: Request) -> str:
    return str(request.headers.get("if-none-match", ""))
