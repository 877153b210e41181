"""`GET /`, `/docs`: the web page and the API documentation.

Plain files of the package, read once, served with a strict content security policy. A document
carries its style sheet and names its scripts' imports, so the first paint waits for one answer.

What must stay true: only files that the package held at start are served; the policy allows no
inline script, no inline style but the sheet's own hash and no other origin, so metadata that looks
like markup stays text; the page needs no network besides the server.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import NotFoundError
from twinlens.serving.openapi.declaration import answer_of, declare
from twinlens.serving.service import Service

INDEX = "index.html"
STYLE = "style.css"
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
_SHEET = f'<link rel="stylesheet" href="/page/{STYLE}">'
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
    policy: str = POLICY


def read_page() -> dict[str, PageFile]:
    """Return the files of the page by name, as they are served."""
    found = {
        entry.name: entry.read_bytes()
        for entry in files("twinlens.serving").joinpath("page").iterdir()
        if entry.name.rpartition(".")[2] in _TYPES
    }
    style = found[STYLE].decode()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    styled = POLICY.replace("style-src 'self'", f"style-src 'self' 'sha256-{digest}'")
    page = {}
    for name, content in found.items():
        is_document = name.endswith(".html")
        served = _embed(content.decode(), style, found).encode() if is_document else content
        tag = f'"{hashlib.sha256(served).hexdigest()[:24]}"'
        media = _TYPES[name.rpartition(".")[2]]
        page[name] = PageFile(served, media, tag, styled if is_document else POLICY)
    return page


def _embed(document: str, style: str, found: dict[str, bytes]) -> str:
    """Return the document with its style sheet inside and a hint for each script it needs."""
    document = document.replace(_SHEET, f"<style>{style}</style>")
    entry = re.search(r'<script type="module" src="/page/([^"]+)">', document)
    if entry is None:
        return document
    hints = "".join(
        f'<link rel="modulepreload" href="/page/{name}">\n'
        for name in sorted(_imports_of(entry[1], found))
    )
    return document.replace(entry[0], hints + entry[0])


def _imports_of(script: str, found: dict[str, bytes]) -> set[str]:
    """Return the names of the scripts that one imports, and that those import."""
    known: set[str] = set()
    left = {script}
    while left:
        text = found[left.pop()].decode()
        new = set(re.findall(r'from "\./([^"]+)"', text)) - known
        known |= new
        left |= new
    return known - {script}


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
        """Return the web page of this server."""
        return _answer(page[INDEX], request)

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        """Return the page that shows /openapi.json."""
        return _answer(page[DOCS], request)

    @router.get("/page/{name}", include_in_schema=False)
    async def part(name: str, request: Request) -> Response:
        """Return a script, the style sheet or the icon."""
        if name not in page:
            raise NotFoundError(f"the page has no file {name[:40]!r}", field="name")
        return _answer(page[name], request)

    return router


def _answer(file: PageFile, request: Request) -> Response:
    """Answer a file, or 304 if the browser's copy is current; browsers revalidate each time."""
    headers = {
        "Content-Security-Policy": file.policy,
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
