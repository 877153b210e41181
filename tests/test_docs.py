"""README and docs: their code runs and prints what they show, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from docs import blocks, draw_api, draw_diagrams, site
from docs.stage import Stage
from twinlens.cli.main import build_app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page for page in blocks.list_pages() if blocks.read_blocks(page)]
TEXTS = [*blocks.list_pages(), ROOT / "CONTRIBUTING.md", ROOT / "docs" / "log.md"]
TEXTS += sorted((ROOT / "docs" / "decisions").glob("*.md"))
TEXTS += sorted((ROOT / "docs" / "benchmarks").glob("*.md"))
TEXTS += sorted((ROOT / "docs" / "log").glob("*.md"))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage.build() as built:
        yield built


def has(page: Path, *, slow: bool) -> bool:
    return any(("slow" in b.code.tags) == slow and not b.reasons for b in blocks.read_blocks(page))


@pytest.mark.parametrize("page", [p for p in PAGES if has(p, slow=False)], ids=name_of)
def test_the_code_of_a_page_runs_and_prints_what_it_shows(page: Path, stage: Stage) -> None:
    assert "\n".join(blocks.run_page(page, stage, slow=False)) == ""


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if has(p, slow=True)], ids=name_of)
def test_the_slow_code_of_a_page_runs_too(page: Path, stage: Stage) -> None:
    assert "\n".join(blocks.run_page(page, stage)) == ""


def test_no_code_hides_from_this() -> None:
    """Every fence says what it is, and no code is indented where a fence belongs."""
    known = {*blocks.RUN, *blocks.SHOWN, "toml", "yaml"}
    for page in blocks.list_pages():
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(blocks.read_fences(page)), (
            f"{page.name}: a fence without a language"
        )
        for fence in blocks.read_fences(page):
            assert fence.language in known, f"{page.name}: ```{fence.language}"
            assert set(fence.tags) <= {*blocks.REASONS, "slow", "varies"}, (page.name, fence.tags)
            text = text.replace(fence.text, "")
        assert not re.search(r"^    \S", text, re.MULTILINE), f"{page.name}: indented code"


def test_what_is_not_run_is_listed_with_its_reason() -> None:
    told = blocks.tell_untested()
    tagged = [b for p in PAGES for b in blocks.read_blocks(p) if b.reasons]
    assert len(told) == len(tagged) > 0
    assert all(any(reason in line for reason in blocks.REASONS.values()) for line in told)


def slug(heading: str) -> str:
    """Return the anchor that a heading gets."""
    words = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def read_prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def list_anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", read_prose(page), re.MULTILINE)}


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r'\]\(([^)\s]+)\)|src(?:set)?="([^"]+)"', read_prose(page))
    for target in map("".join, targets):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        found = page if not path else (page.parent / path).resolve()
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in list_anchors(found), f"{page.name}: {target}"


def test_an_anchor_is_made_as_the_readers_do() -> None:
    assert slug("Every setting") == "every-setting"
    assert slug("OpenAI's API, and its dialects") == "openais-api-and-its-dialects"
    assert slug("`twinlens serve`: a server") == "twinlens-serve-a-server"


def list_commands(block: blocks.Block) -> list[str]:
    """Return the lines of a block that call `twinlens`, joined where they go on."""
    if block.code.language == "console":
        return [c for c, _ in blocks.split_console(block.code) if c.startswith("twinlens ")]
    lines = block.code.text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("twinlens ")]


def test_what_is_not_run_is_at_least_what_the_commands_take() -> None:
    """An option that was renamed would be refused here."""
    root: Any = typer.main.get_command(build_app())
    tagged = [b for p in PAGES for b in blocks.read_blocks(p) if b.reasons]
    commands = [(b.place, line) for b in tagged for line in list_commands(b)]
    assert len(commands) > 10
    for place, line in commands:
        for part in line.split(" #")[0].split("&&"):
            arguments = shlex.split(part)[1:]
            at = root
            while hasattr(at, "commands"):
                at = at.commands[arguments.pop(0)]
            try:
                at.make_context("twinlens", arguments)
            except Exception as error:
                raise AssertionError(f"{place}: {line}: {error}") from error


def shown(text: str, *tags: str, language: str = "text") -> blocks.Fence:
    return blocks.Fence(language, tags, text, 0, len(text))


@pytest.mark.parametrize(
    ("text", "printed", "agrees"),
    [
        ("score 0.95\n", "score 0.93\n", True),
        ("score 0.95\n", "score 0.45\n", False),
        ("12 items\n", "13 items\n", False),
        ("a cat 0.9\n", "a dog 0.9\n", False),
        ("one\n...\nfour\n", "one\ntwo\nthree\nfour\n", True),
        ("revision b5aa4e0c0aa1\n", "revision 0123456789ab\n", True),
        ("[[1.   0.  ]]\n", "[[0.98 0.02]]\n", True),
    ],
)
def test_what_is_shown_is_held_to_what_is_printed(text: str, printed: str, agrees: bool) -> None:
    assert (blocks.compare(shown(text), printed) is None) == agrees


def test_only_an_output_that_varies_may_hold_any_number() -> None:
    assert blocks.compare(shown("trained in 88 s\n", "varies"), "trained in 12 s\n") is None
    assert blocks.compare(shown("trained in 88 s\n", "varies"), "stopped in 12 s\n") is not None


def test_json_is_compared_whatever_its_spaces() -> None:
    text = '{"a": [1, 0.52],\n "revision": "7d3c992d7a29..."}\n'
    printed = '{"a":[1,0.5],"revision":"aaaaaaaaaaaaaaaa0"}'
    assert blocks.compare(shown(text, language="json"), printed) is None


def test_outputs_are_refreshed_in_place_and_only_where_words_agree() -> None:
    text = "sun 0.95 of 12, revision 7d3c992d7a29...\n"
    new = blocks.refresh(shown(text), "sun 0.712 of 13, revision aaaaaaaaaaaaaaaaaaa0\n")
    assert new == "sun 0.71 of 13, revision aaaaaaaaaaaa...\n"
    tiny = blocks.refresh(shown("share 0.000004\n"), "share 4.26e-06\n")
    assert tiny == "share 0.000004\n"
    assert blocks.refresh(shown(text), "moon 0.7 of 13, revision aaaaaaaaaaaa0\n") is None


def test_a_transcript_is_taken_apart() -> None:
    fence = shown("$ echo 1\n1\n$ echo 2\n", language="console")
    assert [(c, s and s.text) for c, s in blocks.split_console(fence)] == [
        ("echo 1", "1\n"),
        ("echo 2", None),
    ]


def test_every_page_is_in_the_site_and_every_link_of_it_holds(tmp_path: Path) -> None:
    places = site.assemble(tmp_path)
    nav = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(nav) == [place for place in places if not place.startswith("decisions/")]
    for place in places:
        page = tmp_path / place
        text = read_prose(page)
        for target in re.findall(r'\]\(([^)\s]+)\)|src(?:set)?="([^"]+)"', text):
            path, _, anchor = "".join(target).partition("#")
            if "://" in path:
                assert (ROOT / path.removeprefix(site.REPOSITORY)).exists(), (place, path)
                continue
            found = (page.parent / path).resolve() if path else page
            assert found.is_file(), (place, path)
            assert not anchor or anchor in list_anchors(found), (place, target)


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    site.assemble(tmp_path / "build" / "docs")
    (tmp_path / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text())
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "build" / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="([^"]+)"', text)
        loaded += re.findall(
            r'<link[^>]*rel="(?:stylesheet|icon|preconnect)"[^>]*href="([^"]+)"', text
        )
        assert not [address for address in loaded if "//" in address], page.name


@pytest.mark.parametrize("name", sorted(draw_diagrams.DIAGRAMS))
def test_a_diagram_is_what_its_script_draws_and_right_by_night(name: str) -> None:
    drawn = draw_diagrams.DIAGRAMS[name]()
    assert drawn == (ROOT / "docs" / "img" / f"{name}.svg").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in drawn


def test_the_reference_pages_are_what_their_script_writes() -> None:
    """`python docs/draw_api.py` makes them anew."""
    for name, text in draw_api.draw_pages().items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, name
        assert not re.search(r"`: *$|^## .*\n\n## ", text, re.MULTILINE), f"{name}: nothing is told"


def test_a_type_is_told_in_words() -> None:
    number = {"type": "integer", "minimum": 1, "maximum": 9}
    assert draw_api.tell_type(number) == "integer 1 to 9"
    assert draw_api.tell_type({"anyOf": [number, {"type": "null"}]}) == "integer 1 to 9 or null"
    assert (
        draw_api.tell_type({"type": "array", "items": {"enum": ["a", "b"]}}) == "list of `a` or `b`"
    )
    assert draw_api.tell_type({"$ref": "#/components/schemas/Job"}) == "[Job](http-shapes.md#job)"
