"""Files beside pictures: SugarCrepe's pairs, names in other languages, sentences with a truth."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.suites.exhibits import TEMPLATES
from twinlens.errors import InputError
from twinlens.training.suites.extras import PAIRS, read_listed_pairs, read_translations
from twinlens.training.suites.material import read_material
from twinlens.training.suites.questions.composition import write_composition
from twinlens.training.suites.questions.relations import SENTENCES, write_relations


def write_data(path: Path, rows: list[dict[str, Any]], **more: str) -> str:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for row in rows:
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(256, size=(9, 9, 3), dtype=np.uint8)).save(buffer, "PNG")
            archive.writestr(row["file"], buffer.getvalue())
        archive.writestr("index.jsonl", "\n".join(map(json.dumps, rows)))
        for name, text in more.items():
            archive.writestr(name, text)
    return str(path)


def test_published_pairs_are_asked_by_their_kind(tmp_path: Path) -> None:
    pair = {
        "file": "a.png",
        "kind": "swap_att",
        "caption": "Red on blue.",
        "negative": "Blue on red.",
    }
    where = write_data(
        tmp_path / "d.zip",
        [{"file": "a.png", "caption": "A thing."}, {"file": "b.png", "caption": "Another."}],
        **{PAIRS: json.dumps(pair)},
    )
    sheet = write_composition(read_material(where, 0), TEMPLATES, 0)
    (question,) = [q for q in sheet.questions if q.group == "SugarCrepe swap_att"]
    assert [sheet.texts[i][0] for i in question.candidates] == ["Red on blue.", "Blue on red."]
    assert question.cluster == "a.png"


def test_a_folder_has_published_pairs_too(tmp_path: Path) -> None:
    row = {"file": "a.png", "kind": "add_obj", "caption": "x ", "negative": "y"}
    (tmp_path / PAIRS).write_text(json.dumps(row) + "\n\n")
    assert read_listed_pairs(str(tmp_path)) == {"a.png": (("add_obj", "x", "y"),)}
    (tmp_path / PAIRS).write_text('{"file": "a.png"}')
    with pytest.raises(InputError, match="line 1 lacks kind"):
        read_listed_pairs(str(tmp_path))
    (tmp_path / PAIRS).write_text("[")
    with pytest.raises(InputError, match="line 1 is not JSON"):
        read_listed_pairs(str(tmp_path))


def test_a_sentence_is_asked_of_a_picture_that_it_is_true_of_and_one_that_it_is_not(
    tmp_path: Path,
) -> None:
    rows = [
        {"file": "0.png", "sentence": "A tower.", "label": True},
        {"file": "1.png", "sentence": "A tower.", "label": False},
        {"file": "2.png", "sentence": "A tower.", "label": False},
        {"file": "3.png", "sentence": "No box.", "label": True},
    ]
    material = read_material(write_data(tmp_path / "d.zip", rows), 0)
    assert "labels" not in material.has
    sheet = write_relations(material, TEMPLATES, 0)
    (question,) = [q for q in sheet.questions if q.group == SENTENCES]
    assert sheet.texts[question.query] == ("A tower.",)
    shown = [sheet.pictures[number] for number in question.candidates]
    assert shown == [material.exhibits[0].picture, material.exhibits[1].picture]
    assert sheet.pictures[min(question.right)] == material.exhibits[0].picture


def test_names_in_other_languages_are_read(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"de": {"dog": "Hund"}, "en": {"dog": "dog"}}))
    assert read_translations(file) == {"de": {"dog": "Hund"}}
    for text, message in (('{"de": ["Hund"]}', "de is not"), ("{}", "it is not"), ("x", "JSON")):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_translations(file)
    with pytest.raises(InputError, match="is not a file"):
        read_translations(tmp_path / "none.json")
