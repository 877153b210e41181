"""Search at 200k x 512: exact and indexed, on text queries, against stock FAISS and other stores.

    python benchmarks/search.py [--quick] [--json FILE] [--keep DIR] [PART ...]

One thread, CPU seconds, contenders alternating within one process. A query's cost is that of
`Collection.search` in full: check for commits, filter, index, re-ranking, metadata of the hits.
Queries are texts outside the distribution of the images, which makes them hard.

Parts: exact, kinds, filters, updates, which run by default; and only by name lists (4-bit lists
beside graphs and beside bare rabitqlib), peers (usearch, LanceDB, pgvector, milvus-lite, if
installed), real (needs TWINLENS_DATA) and million. `lists` takes minutes to build its indexes: run
alone with `--keep DIR`, it reuses those of an earlier run, and `million` its collection. `--quick`
uses 60k rows: ratios to a full scan are smaller there.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is loaded

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from report import Report
from searching.filters import compare_filters
from searching.kinds import compare_exact, compare_kinds
from searching.lists import compare_lists
from searching.million import measure_million
from searching.peers import compare_stores
from searching.real import measure_real
from searching.stage import Stage, fill
from searching.updates import rehearse_updates
from worlds.embeddings import make_world

from twinlens.index.maintenance import IndexPlan, optimise

ON_ONE_STAGE: dict[str, Callable[[Stage], None]] = {
    "exact": compare_exact,
    "kinds": compare_kinds,
    "filters": compare_filters,
    "updates": rehearse_updates,
    "lists": compare_lists,
    "peers": compare_stores,
}
LONG = ("lists", "peers", "real", "million")


def main() -> None:
    """Run the named parts."""
    arguments = _parse()
    report = Report("search", kept=arguments.json)  # a long run that ends early keeps its results
    parts = arguments.parts or [part for part in ON_ONE_STAGE if part not in LONG]
    with tempfile.TemporaryDirectory() as place:
        if staged := [part for part in ON_ONE_STAGE if part in parts]:
            _run_staged(report, staged, Path(place), arguments)
        if "real" in parts:
            measure_real(report, Path(place), quick=arguments.quick)
        if "million" in parts:
            count = 100_000 if arguments.quick else 1_000_000
            kept = arguments.keep / str(count) if arguments.keep else Path(place)
            kept.mkdir(parents=True, exist_ok=True)
            measure_million(report, kept, count)
    report.finish(arguments.json)


def _run_staged(
    report: Report, parts: list[str], place: Path, arguments: argparse.Namespace
) -> None:
    world = make_world(60_000, 1000) if arguments.quick else make_world(200_000, 2000)
    keep = arguments.keep / str(len(world.images)) if arguments.keep else None
    if keep and parts == ["lists"]:  # the others change the collection
        place = keep
        place.mkdir(parents=True, exist_ok=True)
    stage = fill(report, world, place)
    stage.keep = keep
    with stage.writer:
        if "kinds" not in parts and set(parts) & {"filters", "updates"}:
            optimise(stage.writer, IndexPlan("ivf-sq8"))
        for part in parts:
            ON_ONE_STAGE[part](stage)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="60k rows, fewer images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep what `lists` and `million` build"
    )
    parts = list(dict.fromkeys([*ON_ONE_STAGE, *LONG]))
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    return arguments


if __name__ == "__main__":
    main()
