"""docs/methods.md tells of every method, and every setting and number that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.training.family import ALL
from twinlens.training.config import known_keys
from twinlens.training.objectives import METHODS
from twinlens.training.recipes import list_recipes, open_recipe
from twinlens.training.studies.studies import STUDIES

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S))
# Numbers of a log, columns of an index, and shell words that stand in backticks as settings do.
OTHERS = {
    *("spread", "rank", "scale", "bias", "teacher_entropy", "shared_entropy", "crop_loss"),
    *("patch_loss", "variance", "covariance", "negatives", "NAME.negatives.txt", "RUN/report.html"),
    *("visual_tokenizer.safetensors", ".stop", "none of these", "away", "gaussian", "clip_loss"),
    *("distilled", "accuracy", "labels", "timm:", "open_clip:", "cross_entropy", "active"),
    *("supcon", "margin"),
}


def test_every_method_has_a_section_and_a_row() -> None:
    assert sorted(SECTIONS) == ALL
    assert re.findall(r"^\| (\w+) \| .* \| .* \| (?:yes|no) \|$", PAGE, re.M) != []
    rows = re.findall(r"^\| (\w+) \|.*\| (yes|no) \|$", PAGE, re.M)
    assert {name: answer == "yes" for name, answer in rows} == {
        name: open_recipe(name, "default").objective.coupled for name in METHODS
    }


@pytest.mark.parametrize("method", ALL)
def test_a_section_tells_idea_command_use_and_what_to_watch(method: str) -> None:
    body = SECTIONS[method]
    assert f"```sh long\ntwinlens train {method} DATA " in body
    assert "- **Take it** " in body and "- **Watch** " in body
    assert not body.lstrip().startswith((" ", "-"))  # the idea comes first, in words


@pytest.mark.parametrize("method", ALL)
def test_the_settings_and_recipes_in_a_section_exist(method: str) -> None:
    config = open_recipe(method, "default")
    known = {*known_keys(config.objective), *known_keys(config.settings)}
    known |= {key.split(".")[0] for key in known}
    prose = re.sub(r"^```.*?^```$", "", SECTIONS[method], flags=re.M | re.S)
    for text in re.findall(r"`([^`]+)`", prose):
        word = " ".join(text.split())
        if word.startswith(("twinlens study ", "--set ", "--show", "--find-lr")):
            continue
        assert word.split("=")[0] in known | OTHERS, word
    for recipe in re.findall(r"--recipe (\w+)", SECTIONS[method]):
        assert recipe in list_recipes(method)


def test_every_study_has_its_row() -> None:
    table = PAGE[PAGE.index("## Studies") :]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.M) != []
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.M)) == set(STUDIES)
