"""`twinlens index` and `twinlens search` from end to end, with the toy bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.image.test_exif import jpeg
from twinlens.index.stats import describe_segment
from twinlens.index.writer import create_collection

Run = Callable[..., tuple[int, str, str]]


def test_a_folder_is_built_and_searched_by_words(cli: Run, built: Path) -> None:
    code, text, _ = cli("search", built, "a photo of a blue square", "-k", 2, "--json")
    hits = json.loads(text)
    assert code == 0
    assert len(hits) == 2
    assert hits[0]["id"] == "blue.png"
    assert set(hits[0]) == {"id", "score", "metadata"}
    assert hits[0]["score"] >= hits[1]["score"]


def test_unsupported_image_formats_are_reported(
    cli: Run, photos: Path, tmp_path: Path, toy_bundle: Path
) -> None:
    (photos / "x.psd").write_bytes(b"?")
    build = ("index", "build", photos, "-o", tmp_path / "c", "--bundle", toy_bundle)
    _, _, err = cli(*build)
    assert "skipped, unsupported format: 1 .psd" in err
    assert json.loads(cli(*build, "--json")[1])["left_out"] == {".psd": 1}


def test_failures_tell_their_most_common_reason(
    cli: Run, photos: Path, tmp_path: Path, toy_bundle: Path
) -> None:
    for name in ("x.tif", "y.tif"):
        (photos / name).write_bytes(b"?")
    _, _, err = cli("index", "build", photos, "-o", tmp_path / "c", "--bundle", toy_bundle)
    assert "3 failed" in err  # one is in the folder already
    assert "most often: image is not one of JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC" in err


def test_exif_is_searched_by_range_and_left_out_on_request(
    cli: Run, photos: Path, tmp_path: Path, toy_bundle: Path
) -> None:
    (photos / "paris.jpg").write_bytes(jpeg())
    build = ("index", "build", photos, "-o", tmp_path / "c", "--bundle", toy_bundle)
    ask = ("search", tmp_path / "c", "red", "--json", "--filter")
    assert cli(*build)[0] == 0
    for filter, found in {
        'taken >= "2024-05-01" and taken < "2024-06"': ["paris.jpg"],
        'taken >= "2024-05-02"': [],
        'latitude > 48 and longitude < 3 and camera contains "D850"': ["paris.jpg"],
    }.items():
        assert [hit["id"] for hit in json.loads(cli(*ask, filter)[1])] == found
    for option, left in (("--no-place", {"taken", "camera", "lens"}), ("--no-exif", set())):
        summary = json.loads(cli(*build, option, "--json")[1])
        assert summary["embedded"] == 0  # metadata alone is written anew
        hit = json.loads(cli(*ask, 'path contains "paris"')[1])[0]
        assert set(hit["metadata"]) == {"path", *left}


def test_a_search_by_image_finds_that_image(cli: Run, built: Path, photos: Path) -> None:
    _, text, _ = cli("search", built, "--image", photos / "red.png", "-k", 1)
    assert text.split()[1] == "red.png"


def test_filters_and_sheets(cli: Run, built: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.html"
    code, text, _ = cli(
        "search", built, "red", "--filter", 'path contains "blue"', "--sheet", sheet, "--json"
    )
    assert code == 0
    assert [hit["id"] for hit in json.loads(text)] == ["blue.png"]
    assert "data:image/webp;base64," in sheet.read_text()
    code, _, err = cli("search", built, "red", "--filter", "path =")
    assert code == 2
    assert "filter: expected a number" in err
    code, text, err = cli("search", built, "red", "--filter", "lable = 1 or not has path", "--json")
    assert (code, json.loads(text)) == (0, [])
    assert "no item has a field lable; the fields are: path" in err


def test_the_sheet_opens_in_the_browser(
    cli: Run, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    code, _, err = cli("search", built, "red", "--open")
    assert code == 0, err
    assert opened == [(built / "contact-sheet.html").resolve().as_uri()]
    assert "red.png" in (built / "contact-sheet.html").read_text()


def test_terms_thresholds_and_groups_shape_the_answer(cli: Run, built: Path) -> None:
    def ask(*options: object) -> list[dict[str, Any]]:
        code, text, err = cli("search", built, *options, "--json")
        assert code == 0, err
        found: list[dict[str, Any]] = json.loads(text)
        return found

    plain = ask("red")
    score = {hit["id"]: hit["score"] for hit in plain}
    without = {hit["id"]: hit["score"] for hit in ask("red", "--not", "a photo of a red square")}
    assert without["red.png"] < score["red.png"]
    middle = (plain[0]["score"] + plain[1]["score"]) / 2
    assert [hit["id"] for hit in ask("red", "--threshold", middle)] == [plain[0]["id"]]
    folded = ask("red", "--group", -1)
    assert len(folded) == 1
    assert len(folded[0]["duplicates"]) == len(plain) - 1


def test_a_table_gives_its_own_ids(
    cli: Run, photos: Path, tmp_path: Path, toy_bundle: Path
) -> None:
    table = photos / "shop.csv"
    table.write_text("sku,file,price\nA7,red.png,3\nB9,blue.png,5\nC1,broken.png,1\n")
    out = tmp_path / "shop.index"
    options = ("--id-column", "sku", "--bundle", toy_bundle)
    code, _, err = cli("index", "build", table, "-o", out, *options)
    assert code == 0, err
    _, text, _ = cli("search", out, "red", "--filter", "price < 5", "--json")
    assert [hit["id"] for hit in json.loads(text)] == ["A7"]
    failed = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [one["id"] for one in failed] == ["C1"]


def test_a_second_build_indexes_the_changes(
    cli: Run, built: Path, photos: Path, squares: dict[str, bytes]
) -> None:
    (photos / "broken.png").write_bytes(squares["red"])
    (photos / "blue.png").unlink()
    code, text, _ = cli("index", "build", photos, "-o", built, "--json")
    summary = json.loads(text)
    assert code == 0
    assert (summary["embedded"], summary["removed"], summary["failed"]) == (1, 1, 0)


def test_a_folder_that_shrank_is_not_followed_unasked(
    cli: Run, built: Path, photos: Path, squares: dict[str, bytes]
) -> None:
    for name in list(squares)[1:]:
        (photos / f"{name}.png").unlink()
    code, _, err = cli("index", "build", photos, "-o", built, "--max-delete", "1")
    assert (code, "--max-delete" in err, "--keep" in err) == (2, True, True)
    code, text, _ = cli("index", "build", photos, "-o", built, "--max-delete", "100%", "--json")
    assert (code, json.loads(text)["removed"]) == (0, len(squares) - 1)


def test_stats_verify_compact_export_and_import(
    cli: Run, built: Path, tmp_path: Path, toy_bundle: Path
) -> None:
    count = json.loads(cli("index", "stats", built, "--json")[1])["count"]
    assert f"{count} items" in cli("index", "stats", built)[1]
    assert cli("index", "verify", built)[0] == 0
    assert cli("index", "compact", built)[0] == 0
    assert cli("index", "export", built, "-o", tmp_path / "out")[0] == 0
    again = tmp_path / "again"
    code, _, err = cli("index", "import", tmp_path / "out", "-o", again, "--bundle", toy_bundle)
    assert (code, f"{count} items" in err) == (0, True)
    hits = json.loads(cli("search", again, "blue", "-k", 1, "--json")[1])
    assert hits[0]["id"] == "blue.png"


def test_damage_ends_verify_with_2(cli: Run, built: Path) -> None:
    cli("index", "compact", built)
    path = next(built.glob("seg-*/embeddings.npy"))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    code, _, err = cli("index", "verify", built)
    assert code == 2
    assert "sha256" in err


def test_another_bundle_is_refused_with_2(cli: Run, tmp_path: Path, toy_bundle: Path) -> None:
    create_collection(tmp_path / "c", dim=16, bundle_name="older", bundle_revision="f00")
    code, _, err = cli("search", tmp_path / "c", "red", "--bundle", toy_bundle)
    assert code == 2
    assert "was built with bundle 'older' revision f00" in err


def test_stats_describe_a_segment_s_index_and_recall() -> None:
    recall = {"text": {"value": 0.9584, "low": 0.9476, "high": 0.9671, "queries": 500}}
    params = {"probe": 12, "expansion": 2}
    summary: dict[str, Any] = {"name": "seg-1", "rows": 7, "index": "exact"}
    assert list(describe_segment(summary)) == ["seg-1: 7 rows, exact"]
    summary |= {
        "index": "ivf-sq8",
        "settings": {"factory": "IVF16,SQ8"},
        "damage": "a flipped byte",
    }
    summary["tuning"] = {"params": params, "target": 0.95, "recall": recall, "milliseconds": 0.184}
    summary["tuning"]["confidence"] = 0.99
    lines = list(describe_segment(summary))
    assert lines[0] == "seg-1: 7 rows, ivf-sq8 (IVF16,SQ8), tuned to 0.95"
    assert "probe 12, 2 candidates per answer, 0.18 CPU ms" in lines[1]
    assert "text: 0.9584 (99 %: 0.9476 to 0.9671) on 500 held-out queries" in lines[2]
    assert "a flipped byte" in lines[3]
