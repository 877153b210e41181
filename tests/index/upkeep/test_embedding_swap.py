"""A collection moves to another bundle in one commit, and back; no answer mixes two bundles."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.index.upkeep import drill_swap
from tests.index.upkeep.drill_swap import TurnedEncoder, paint
from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.index.collection import Collection
from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.live_folder import LiveFolder, apply_changes
from twinlens.index.maintenance import IndexPlan, optimise, read_texts, store_sample
from twinlens.index.upkeep.backup import back_up
from twinlens.index.upkeep.bundle_comparison import compare_bundles
from twinlens.index.upkeep.embedding_set import NEXT_NAME, BundleEmbeddings, QuerySample, read_set
from twinlens.index.upkeep.embedding_swap import find_previous, find_staged, swap_in
from twinlens.index.upkeep.metadata_update import update_metadata
from twinlens.index.upkeep.reembedding import consolidate, discard, stage
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer, create_collection

OPTIONS = BuildOptions(batch=4, workers=2)
EXACT = IndexPlan("exact")


@pytest.fixture
def first() -> TurnedEncoder:
    return TurnedEncoder("r1", 12)


@pytest.fixture
def second() -> TurnedEncoder:
    return TurnedEncoder("r22", 8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(40):
        paint(folder / f"{n:02}.png", n)
    return folder


@pytest.fixture
def writer(tmp_path: Path, root: Path, first: TurnedEncoder) -> Iterator[Writer]:
    place, bundle = tmp_path / "c", first.bundle
    create_collection(
        place,
        dim=bundle.dim,
        bundle_name=bundle.name,
        bundle_revision=bundle.revision,
        bundle_source=bundle.source,
    )
    with Writer(place, seal_rows=16) as opened:
        build(opened, LiveFolder(root).corpus(), first, OPTIONS)
        yield opened


def prepare(writer: Writer, encoder: TurnedEncoder) -> BundleEmbeddings:
    with Collection(writer.folder) as reader:
        staged = stage(reader, encoder.bundle, encoder, batch=4)
        return consolidate(reader, staged, None, EXACT)


def check_whole(folder: Path, root: Path, encoder: TurnedEncoder) -> None:
    """Compare every embedding with the encoder's answer to the file."""
    assert verify_collection(folder).is_sound
    with Collection(folder) as reader:
        assert reader.snapshot().head.bundle == encoder.bundle
        assert {item.id for item in reader.catalog.items()} == {p.name for p in root.iterdir()}
        for path in root.iterdir():
            pixels = encoder.preprocess(path.read_bytes())[None]
            expected = encoder.encode_pixels(pixels)[0]
            assert np.allclose(reader.embedding(path.name), expected, atol=2e-3), path.name


def test_items_stay_and_all_embeddings_change(
    writer: Writer, root: Path, second: TurnedEncoder
) -> None:
    before = list(writer.catalog.items())
    report = swap_in(writer, prepare(writer, second), second)
    assert (report.items, report.late, report.dropped) == (40, 0, 0)
    assert list(writer.catalog.items()) == before
    check_whole(writer.folder, root, second)
    row = writer.collection.embedding("07.png")
    assert writer.collection.search(row, 1, revision="r22")[0][0].id == "07.png"
    assert not (writer.folder / NEXT_NAME).exists()


def test_writes_in_between_are_part_of_the_swap(
    writer: Writer, root: Path, first: TurnedEncoder, second: TurnedEncoder
) -> None:
    staged = prepare(writer, second)
    paint(root / "new.png", 100)
    paint(root / "05.png", 101)
    (root / "06.png").unlink()
    apply_changes(writer, LiveFolder(root), ["new.png", "05.png", "06.png"], first, OPTIONS)
    update_metadata(writer, {"08.png": {"tone": "warm"}})
    report = swap_in(writer, staged, second)
    assert (report.items, report.late) == (40, 3)
    check_whole(writer.folder, root, second)
    hits = writer.collection.search(writer.collection.embedding("08.png"), filter='tone = "warm"')
    assert [hit.id for hit in hits[0]] == ["08.png"]
    writer.compact()
    check_whole(writer.folder, root, second)


def test_the_way_back_is_the_same_swap(
    writer: Writer, root: Path, first: TurnedEncoder, second: TurnedEncoder
) -> None:
    before = {i.id: writer.collection.embedding(i.id) for i in writer.catalog.items()}
    with pytest.raises(NotFoundError, match="nothing to go back to"):
        find_previous(writer.folder)
    swap_in(writer, prepare(writer, second), second)
    paint(root / "new.png", 100)
    apply_changes(writer, LiveFolder(root), ["new.png"], second, OPTIONS)
    report = swap_in(writer, find_previous(writer.folder), first)
    assert report.late == 1
    check_whole(writer.folder, root, first)
    for id, row in before.items():
        assert np.array_equal(writer.collection.embedding(id), row)
    assert find_previous(writer.folder).bundle == second.bundle
    swap_in(writer, find_previous(writer.folder), second)
    check_whole(writer.folder, root, second)
    assert len(list(writer.folder.glob("previous-*"))) == 1


def test_what_was_staged_is_not_embedded_again(
    writer: Writer, root: Path, second: TurnedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlens.index.upkeep.reembedding.FIRST_ROWS", 8)
    real, calls = second.encode_pixels, 0

    def fail_later(pixels: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return real(pixels)

    monkeypatch.setattr(second, "encode_pixels", fail_later)
    with Collection(writer.folder) as reader, pytest.raises(KeyboardInterrupt):
        stage(reader, second.bundle, second, batch=4)
    held = find_staged(writer.folder)
    assert 0 < sum(row.rows for row in held.segments) < 40
    (writer.folder / NEXT_NAME / "seg-left").mkdir()
    second.encoded = 0
    swap_in(writer, prepare(writer, second), second)
    assert second.encoded == 40 - sum(row.rows for row in held.segments)
    check_whole(writer.folder, root, second)


def test_items_without_an_image_are_refused_or_dropped(
    writer: Writer, root: Path, second: TurnedEncoder
) -> None:
    (root / "03.png").unlink()
    secret = [{"path": str(root / "04.png")}]
    writer.upsert(["posted"], np.ones((1, 12)), secret, ["api:0"])
    staged = prepare(writer, second)
    with pytest.raises(InputError, match=r"images of 2 items .* '03.png', 'posted'"):
        swap_in(writer, staged, second)
    assert writer.catalog.head().bundle_revision == "r1"
    assert swap_in(writer, find_staged(writer.folder), second, drop=True).dropped == 2
    check_whole(writer.folder, root, second)


def test_a_third_bundle_waits_until_the_staged_one_is_gone(
    writer: Writer, second: TurnedEncoder, first: TurnedEncoder
) -> None:
    prepare(writer, second)
    third = TurnedEncoder("r333", 6)
    with pytest.raises(ConflictError, match="--discard"):
        prepare(writer, third)
    with pytest.raises(ConflictError, match="already"):
        prepare(writer, first)
    assert discard(writer.folder)
    assert not discard(writer.folder)
    prepare(writer, third)
    assert read_set(writer.folder / NEXT_NAME) is not None


def test_a_set_that_a_killed_swap_left_is_replaced(
    writer: Writer,
    root: Path,
    first: TurnedEncoder,
    second: TurnedEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    staged = prepare(writer, second)
    with monkeypatch.context() as patch:
        patch.setattr("twinlens.index.upkeep.embedding_swap._remove_others", lambda *_: None)
        swap_in(writer, staged, second)
    assert (writer.folder / NEXT_NAME).exists()
    swap_in(writer, prepare(writer, first), first)
    check_whole(writer.folder, root, first)


def test_damage_in_a_staged_set_stops_the_swap(
    writer: Writer, root: Path, first: TurnedEncoder, second: TurnedEncoder
) -> None:
    staged = prepare(writer, second)
    path = next((writer.folder / NEXT_NAME).glob("seg-*/embeddings.npy"))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Exception, match="sha256"):
        swap_in(writer, staged, second)
    check_whole(writer.folder, root, first)


def test_a_snapshot_has_the_collection_without_the_set_beside_it(
    writer: Writer, root: Path, first: TurnedEncoder, second: TurnedEncoder, tmp_path: Path
) -> None:
    prepare(writer, second)
    back_up(writer.folder, tmp_path / "copy")
    assert not (tmp_path / "copy" / NEXT_NAME).exists()
    check_whole(tmp_path / "copy", root, first)


def test_queries_and_an_index_come_along(
    writer: Writer, root: Path, second: TurnedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlens.index.upkeep.reembedding.MIN_ROWS", 16)
    texts = [f"{n * 400000 + 77:06x}" for n in range(40)]
    store_sample(writer, "text", np.eye(40, 12, dtype=np.float32) + 0.1, "given", texts)
    stored = read_texts(writer.catalog)
    assert stored is not None and stored.texts == tuple(texts)
    sample = QuerySample(stored.texts, stored.source, second.embed_texts(texts))
    with Collection(writer.folder) as reader:
        staged = stage(reader, second.bundle, second, batch=4)
        staged = consolidate(reader, staged, sample, IndexPlan("hnsw", 0.5))
    swap_in(writer, staged, second)
    index = writer.collection.snapshot().parts[0].ann_index
    assert index is not None and index.row.kind == "hnsw"
    assert index.open() is not None
    check_whole(writer.folder, root, second)
    kept = find_previous(writer.folder).read_queries()
    assert kept is not None and kept.texts == tuple(texts)
    optimise(writer, EXACT)
    check_whole(writer.folder, root, second)


def test_bundles_are_compared_by_texts_and_images(
    writer: Writer, root: Path, first: TurnedEncoder, second: TurnedEncoder
) -> None:
    captions = {f"{n:02}.png": {"caption": f"{n * 400000 + 77:06x}"} for n in range(40)}
    update_metadata(writer, captions)
    twin = TurnedEncoder("r1", 12)
    twin.bundle = second.bundle.__class__("twin", "r1-again", "/twin", 12)
    texts = [one["caption"] for one in captions.values()]
    with Collection(writer.folder) as reader:
        staged = stage(reader, twin.bundle, twin, batch=4)
        same = compare_bundles(reader, staged, first, twin, texts)
        assert (same.text_agreement, same.image_agreement) == (1.0, 1.0)
        assert (same.texts, same.images, same.captions) == (40, 40, 40)
        assert same.found_before == same.found_after
        discard(writer.folder)
        staged = stage(reader, second.bundle, second, batch=4)
        other = compare_bundles(reader, staged, first, second, texts)
        assert other.text_agreement is not None and 0.2 < other.text_agreement < 0.99
        alone = compare_bundles(reader, staged, None, second, texts)
        assert (alone.texts, alone.text_agreement) == (0, None)
        assert alone.image_agreement == other.image_agreement


def test_no_search_mixes_two_bundles(
    writer: Writer, root: Path, first: TurnedEncoder, second: TurnedEncoder
) -> None:
    """A reader asks with each bundle's own query all the time, and gets its answer or a refusal."""
    paths = sorted(root.iterdir())[:8]
    asked = {
        encoder.bundle.revision: [
            (p.name, encoder.encode_pixels(encoder.preprocess(p.read_bytes())[None])[0])
            for p in paths
        ]
        for encoder in (first, second)
    }
    answered = dict.fromkeys(asked, 0)
    faults: list[BaseException] = []
    stop = threading.Event()

    def ask() -> None:
        try:
            with Collection(writer.folder) as reader:
                while not stop.is_set():
                    for revision, queries in asked.items():
                        for name, row in queries:
                            try:
                                hit = reader.search(row, 1, revision=revision)[0][0]
                            except ConflictError:
                                continue
                            assert hit.id == name and hit.score > 0.999
                            answered[revision] += 1
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    swap_in(writer, prepare(writer, second), second)
    for encoder in (first, second, first, second):
        swap_in(writer, find_previous(writer.folder), encoder)
        time.sleep(0.1)
    stop.set()
    thread.join()
    assert faults == []
    assert min(answered.values()) > 0


def check_drill(folder: Path, root: Path) -> None:
    with Collection(folder) as reader:
        revision = reader.head.bundle_revision
    for path in set(root.iterdir()):  # one that was painted and not indexed
        with Collection(folder) as reader:
            if not reader.catalog.by_id([path.name]):
                path.unlink()
    check_whole(folder, root, drill_swap.ENCODERS[revision])


def drill_swaps(folder: Path, root: Path, rounds: int) -> int:
    """Kill swaps at random moments; return how many were acknowledged."""
    root.mkdir()
    bundle = drill_swap.ENCODERS["r1"].bundle
    create_collection(
        folder,
        dim=bundle.dim,
        bundle_name=bundle.name,
        bundle_revision=bundle.revision,
        bundle_source=bundle.source,
    )
    rng, number, swaps = random.Random(rounds), 0, 0
    program = str(Path(drill_swap.__file__))
    for _ in range(rounds):
        command = [sys.executable, program, str(folder), str(root), str(number)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        printed: list[str] = []
        while rng.random() < 0.7:  # let some steps end before the random moment
            printed.append(process.stdout.readline().strip())
        time.sleep(rng.uniform(0, 0.4))
        process.kill()
        printed += [line for line in process.communicate()[0].split("\n")[:-1] if line]
        added = [line for line in printed if line.endswith(".png")]
        swapped = [line for line in printed if line in drill_swap.ENCODERS]
        with Writer(folder) as writer:
            assert set(added) == set(writer.catalog.versions(added))
            if printed and printed[-1] in drill_swap.ENCODERS:
                now = writer.catalog.head().bundle_revision
                assert now == swapped[-1]
        check_drill(folder, root)
        number += 1 + len(added)
        swaps += len(swapped)
    return swaps


def test_a_killed_swap_is_whole_or_not_there(tmp_path: Path) -> None:
    drill_swaps(tmp_path / "c", tmp_path / "images", rounds=2)


@pytest.mark.slow
def test_100_killed_swaps_lose_nothing(tmp_path: Path) -> None:
    assert drill_swaps(tmp_path / "c", tmp_path / "images", rounds=100) > 50
