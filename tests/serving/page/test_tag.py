"""Pictures are tagged in the page as the API tags them, by the server's words or stored ones."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from twinlens.demo.drawings import THINGS
from twinlens.demo.picture import Pen

pytestmark = pytest.mark.slow
TAGS = "#tag-results .labels li"


@pytest.fixture
def umbrella(tmp_path: Path) -> Path:
    """A drawing of an umbrella."""
    pen = Pen(128)
    THINGS["umbrella"](pen)
    pen.finish().save(tmp_path / "umbrella.png")
    return tmp_path / "umbrella.png"


def tag(page: Any, server: str, picture: Path) -> list[str]:
    page.set_default_timeout(60_000)
    page.goto(f"{server}/#tag")
    page.locator("#tag-model option").first.wait_for(state="attached")
    page.set_input_files("#tag-images input", [picture])
    page.locator("#tag-status", has_text="1 image, ").wait_for()
    return words(page)


def words(page: Any) -> list[str]:
    found: list[str] = page.locator(f"{TAGS} > span:first-child").all_inner_texts()
    return found


def test_a_picture_gets_the_tags_and_probabilities_of_the_api(
    page: Any, server: str, umbrella: Path
) -> None:
    shown = tag(page, server, umbrella)
    sent = {"images": umbrella.read_bytes()}
    answer = httpx.post(f"{server}/tag", files=sent, timeout=60).json()
    tags = answer["data"][0]["tags"]
    assert shown == [one["tag"] for one in tags] and len(shown) == 5
    assert "umbrella" in shown
    assert f"{answer['words']} words" in page.inner_text("#tag-status")
    shares = [
        float(text.removesuffix(" %")) for text in page.locator(f"{TAGS} .score").all_inner_texts()
    ]
    for share, one in zip(shares, tags, strict=True):
        assert abs(share - 100 * one["probability"]) <= 0.51
    page.select_option("#tag-count", "3")
    page.locator(TAGS).nth(3).wait_for(state="detached")
    assert words(page) == shown[:3]


def test_a_stored_classifier_is_a_vocabulary_and_curl_answers_the_same(
    page: Any, server: str, umbrella: Path
) -> None:
    kept = httpx.put(f"{server}/classifiers/wet", json={"classes": ["umbrella", "sun"]}, timeout=60)
    assert kept.status_code < 300, kept.text
    tag(page, server, umbrella)
    page.select_option("#tag-words", "wet")
    page.locator("#tag-status", has_text="2 words").wait_for()
    assert words(page) == ["umbrella", "sun"]
    line = page.text_content("#tag-curl")
    done = subprocess.run(
        ["bash", "-c", line], cwd=umbrella.parent, capture_output=True, check=True
    )
    (answer,) = json.loads(done.stdout)["data"]
    assert [one["tag"] for one in answer["tags"]] == ["umbrella", "sun"]


def test_a_picture_that_no_word_fits_says_so(page: Any, server: str, umbrella: Path) -> None:
    far = {"classes": ["guitar", "elephant", "snowman"]}
    assert httpx.put(f"{server}/classifiers/far", json=far, timeout=60).status_code < 300
    tag(page, server, umbrella)
    page.select_option("#tag-words", "far")
    page.locator("#tag-status", has_text="3 words").wait_for()
    assert "None of the words fits" in page.inner_text("#tag-results .verdict")
    assert sorted(words(page)) == sorted(far["classes"])
