"""The page at `/`: its files, its content security policy, and that it loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from starlette.testclient import TestClient

from twinlens.serving.keys import parse_keys
from twinlens.serving.routes.page import POLICY, read_page
from twinlens.serving.settings import ServerSettings

BUDGET = 250_000
PAGE = read_page()
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Reader(HTMLParser):
    """The references, ids and controls of a page's markup."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.controls: list[tuple[str, bool]] = []
        self.bare: list[str] = []  # scripts with a body
        self.styles: list[str] = []
        self._labels = 0
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.attributes |= set(given)
        self.links += [given[name] or "" for name in ("src", "href") if name in given]
        self.ids += [given["id"] or ""] if "id" in given else []
        self._open = tag if tag in ("script", "style") else None
        self._labels += tag == "label"
        if tag in ("input", "select", "textarea"):
            self.controls.append((str(given.get("id")), self._labels > 0))

    def handle_endtag(self, tag: str) -> None:
        self._labels -= tag == "label"
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            (self.bare if self._open == "script" else self.styles).append(data)


INDEX = Reader(PAGE["index.html"].content.decode())
DOCS = Reader(PAGE["docs.html"].content.decode())


def test_the_page_is_served_at_the_root(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Twinlens</title>" in answer.text
    assert client.head("/").status_code == 200
    assert "<title>Twinlens API</title>" in client.get("/docs").text


@pytest.mark.parametrize("name", sorted(PAGE))
def test_every_file_has_its_type_and_the_policy(client: TestClient, name: str) -> None:
    answer = client.get(f"/page/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(TYPES[name.rpartition(".")[2]])
    assert answer.headers["content-security-policy"] == PAGE[name].policy
    assert name.endswith(".html") or PAGE[name].policy == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == PAGE[name].content


def test_the_policy_allows_no_inline_code_and_no_other_origin() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert not re.search(r"unsafe|https?:|\*", POLICY)


@pytest.mark.parametrize("name", ["index.html", "docs.html"])
def test_a_document_carries_the_style_sheet_and_its_policy_allows_no_other(name: str) -> None:
    (style,) = Reader(PAGE[name].content.decode()).styles
    assert style.encode() == PAGE["style.css"].content
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in PAGE[name].policy.split("; "))
    assert rules["style-src"] == f"'self' 'sha256-{digest}'"
    others = POLICY.replace("style-src 'self'; ", "")
    assert PAGE[name].policy.replace(f"style-src {rules['style-src']}; ", "") == others


def test_a_document_names_every_script_that_it_will_import() -> None:
    hints = re.findall(
        r'rel="modulepreload" href="/page/([^"]+)"', PAGE["index.html"].content.decode()
    )
    scripts = {name for name in PAGE if name.endswith(".js")} - {"app.js", "docs.js"}
    assert set(hints) == scripts and len(hints) == len(scripts)


def test_an_unchanged_file_is_answered_with_304(client: TestClient) -> None:
    first = client.get("/page/app.js")
    tag = first.headers["etag"]
    again = client.get("/page/app.js", headers={"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    assert client.get("/page/app.js", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["nope.js", "..%2f__init__.py", "../app.py", "%2e%2e", "app.py"])
def test_only_files_of_the_page_are_served(client: TestClient, name: str) -> None:
    answer = client.get(f"/page/{name}")
    assert answer.status_code == 404
    assert "error" in answer.json()


def test_the_page_is_small() -> None:
    assert sum(len(file.content) for file in PAGE.values()) < BUDGET


def test_markup_has_no_inline_script_style_or_handler() -> None:
    for markup in (INDEX, DOCS):
        assert markup.bare == []
        assert not [name for name in markup.attributes if name.startswith("on") or name == "style"]


def test_everything_that_the_page_refers_to_is_served_here(client: TestClient) -> None:
    links = [link for link in INDEX.links + DOCS.links if not link.startswith("#")]
    assert links
    for link in links:
        assert link.startswith("/") and client.get(link).status_code == 200, link
    for name, file in PAGE.items():
        for imported in re.findall(r'from "\./([^"]+)"', file.content.decode()):
            assert imported in PAGE, f"{name} imports {imported}"


def test_no_file_names_another_host() -> None:
    for name, file in PAGE.items():
        text = file.content.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|\burl\(|@import", text), name


def test_no_script_turns_text_into_markup_or_code() -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc"
    for name, file in PAGE.items():
        assert not re.search(markup + r"|\beval\(|new Function", file.content.decode()), name


def test_every_control_has_a_label_and_every_id_is_one() -> None:
    assert [name for name, is_labelled in INDEX.controls if not is_labelled] == []
    assert len(INDEX.ids) == len(set(INDEX.ids))
    known = {*INDEX.ids, *DOCS.ids}
    for name, file in PAGE.items():
        for used in re.findall(r'byId\("([^"]+)"\)', file.content.decode()):
            assert used in known, f"{name} looks for #{used}"


def test_the_page_is_served_without_a_key_and_the_api_is_not(
    make_client: Callable[..., TestClient],
) -> None:
    client = make_client(ServerSettings(keys=parse_keys("read:open-sesame")))
    assert client.get("/").status_code == 200
    assert client.get("/page/app.js").status_code == 200
    assert client.get("/v1/models").status_code == 401
