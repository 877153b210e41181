"""`.mix` files: parts of other kinds, and what is wrong in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.data.test_sources import as_tars, contents
from tests.training.family import small_config, with_settings, write_images
from twinlens.errors import InputError
from twinlens.training.data.sources import open_source
from twinlens.training.loop.loop import train
from twinlens.training.loop.opening import open_session
from twinlens.training.progress import Silent


def write_mix(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    as_tars(write_images(tmp_path / "images", 6), tmp_path / "out")
    (tmp_path / "all.mix").write_text("# two parts\n3 images\n1 out/shard-{0..1}.tar\n")
    return tmp_path / "all.mix"


def test_parts_are_read_one_after_another(tmp_path: Path) -> None:
    source = open_source(write_mix(tmp_path))
    assert len(source.records) == 12
    assert contents(source) == contents(open_source(tmp_path / "images"))


def test_a_run_draws_each_part_by_its_weight(tmp_path: Path) -> None:
    where = str(write_mix(tmp_path))
    config = with_settings(small_config("simclr"), batch=4, steps=3, memory_gb=0.0)
    session = open_session(config, where, tmp_path / "run", Silent())
    drawn = [p for step in range(3) for p in session.feeder.order.positions(step)]
    session.close()
    assert sum(place < 6 for place in drawn) == 9
    assert train(config, where, tmp_path / "run").step == 3


@pytest.mark.parametrize("line", ["images", "x images", "-1 images", "0 images", "1", "nan a"])
def test_a_line_that_says_nothing_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.mix").write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"a\.mix line 1: write WEIGHT PATH"):
        open_source(tmp_path / "a.mix")
    (tmp_path / "b.mix").write_text("# nothing\n")
    with pytest.raises(InputError, match="names no data"):
        open_source(tmp_path / "b.mix")
