"""`twinlens index`: build a collection from a corpus, maintain it, import and export it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.index import explore, items
from twinlens.cli.index.building import add_index, bundle_for, ensure_collection, fill_collection
from twinlens.cli.index.dedup import dedup
from twinlens.cli.index.migrate import migrate
from twinlens.cli.index.options import (
    Checksum,
    Folder,
    Frames,
    KeepOption,
    KindOption,
    MaxDelete,
    OptionalBundle,
    SourceArgument,
    Target,
)
from twinlens.cli.index.progress import BuildDisplay
from twinlens.cli.index.reembed import reembed
from twinlens.cli.index.snapshot import snapshot
from twinlens.cli.index.watch import watch
from twinlens.cli.options import (
    DeviceOption,
    Exif,
    Json,
    Place,
    PrecisionOption,
    Threads,
    open_encoder,
)
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import CollectionError, InputError

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder
    from twinlens.index.ingest.builder import EmbeddingEngine

app = typer.Typer(
    help="""Build and maintain collections of embeddings.

    [bold]Example:[/] twinlens index build photos/ -o photos.index""",
    no_args_is_help=True,
)

app.command()(items.add)
app.command()(items.remove)
app.command("list")(items.list_matching)
app.command()(items.captions)
app.command()(snapshot)
app.command()(reembed)
app.command()(migrate)
app.command()(watch)
app.command()(dedup)
app.command()(explore.cluster)
app.command()(explore.select)
app.command()(explore.outliers)


@app.command()
def build(
    corpus: Annotated[
        str, typer.Argument(help="Image folder, glob, .tar shards, .zip, .csv, .jsonl or .parquet.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the collection.", metavar="DIR")
    ],
    bundle: OptionalBundle = None,
    id_column: Annotated[str | None, typer.Option(help="Column of a table that holds ids.")] = None,
    path_column: Annotated[
        str | None, typer.Option(help="Column of a table that holds image paths.")
    ] = None,
    keep: KeepOption = False,
    max_delete: MaxDelete = None,
    checksum: Checksum = False,
    exif: Exif = None,
    place: Place = True,
    frames: Frames = "2",
    queries: Annotated[
        Path | None, typer.Option(help="Text queries for tuning, one per line; default: captions.")
    ] = None,
    kind: KindOption = "auto",
    target: Target = 0.95,
    batch: Annotated[int, typer.Option(help="Images per batch of the encoder.", min=1)] = 32,
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    engine: Annotated[
        str,
        typer.Option(
            help="onnxruntime, openvino, auto (the faster one here), or `ray`: on a Ray cluster."
        ),
    ] = "auto",
    address: Annotated[
        str | None,
        typer.Option(help="Address of the Ray cluster, e.g. `auto`; default: one on this machine."),
    ] = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Index the images of CORPUS; run it again to apply additions, changes and removals.

    [bold]Example:[/] twinlens index build photos/ -o photos.index
    """
    from twinlens.bundle.image.video import parse_sampling
    from twinlens.index.ingest.builder import BuildOptions
    from twinlens.index.ingest.corpus import open_corpus
    from twinlens.index.maintenance import IndexPlan

    source = open_corpus(corpus, id_column=id_column, path_column=path_column)
    if address is not None and engine != "ray":
        raise InputError("--address is that of a Ray cluster; add --engine ray", field="address")
    local = "auto" if engine == "ray" else engine
    encoder = open_encoder(bundle_for(out, bundle), precision, device, threads, local)
    embed = _plan_ray(encoder, precision, device, address) if engine == "ray" else None
    ensure_collection(out, encoder)
    options = BuildOptions(
        batch,
        keep=keep,
        max_delete=max_delete,
        exif=exif,
        place=place,
        checksum=checksum,
        frames=parse_sampling(frames),
    )
    plan = IndexPlan(kind, target)
    fill_collection(out, corpus, source, encoder, options, plan, queries, json, embed)


def _plan_ray(
    encoder: Encoder, precision: str, device: str, address: str | None
) -> EmbeddingEngine:
    """Return the engine on Ray, whose workers open the bundle by its path."""
    from twinlens.index.ingest.ray_blocks import open_in_worker
    from twinlens.index.ingest.ray_engine import RayEngine, import_ray

    import_ray()  # before anything is made
    folder = str(encoder.folder.resolve())
    return RayEngine(partial(open_in_worker, folder, precision, device), address)


@app.command()
def stats(folder: SourceArgument, json: Json = False) -> None:
    """Show a collection's size, segments and measured recall.

    [bold]Example:[/] twinlens index stats photos.index
    """
    from twinlens.index.stats import describe_segment, read_stats
    from twinlens.index.stores.opening import open_collection

    with open_collection(folder) as collection:
        summary = read_stats(collection)
    if json:
        print_json(summary)
        return
    bundle = summary["bundle"]
    typer.echo(f"{summary['path']}: {summary['count']} items of dimension {summary['dim']}")
    typer.echo(f"  bundle   {bundle['name']} {bundle['revision'][:12]} ({bundle['source']})")
    typer.echo(f"  size     {summary['bytes'] / 1e6:.1f} MB, epoch {summary['epoch']}")
    if (summary["domain"] or {}).get("warning"):
        typer.echo(f"  warning  {summary['domain']['warning']}")
    for modality, value in summary["recall"].items():
        low, high = summary["recall_interval"][modality]
        state = summary["recall_state"][modality]
        shown = state if value is None else f"{value:.4f} (99 %: {low:.4f} to {high:.4f})"
        typer.echo(f"  recall@10 of {modality} queries: {shown}")
    for segment in summary["segments"]:
        for line in describe_segment(segment):
            typer.echo(f"  {line}")


@app.command()
def verify(
    folder: Folder,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild damaged indexes; embeddings are not changed.")
    ] = False,
    json: Json = False,
) -> None:
    """Verify every byte of a collection against its recorded hashes; exit 2 if any differs.

    [bold]Example:[/] twinlens index verify photos.index
    """
    from twinlens.index.maintenance import repair as rebuild
    from twinlens.index.verify import verify_collection
    from twinlens.index.writer import Writer

    report = verify_collection(folder)
    if repair and report.index_faults and not report.faults:
        with Writer(folder) as writer:
            rebuild(writer)
        report = verify_collection(folder)
    if json:
        print_json(
            {
                "items": report.items,
                "files": report.files,
                "faults": report.faults,
                "derived_faults": report.index_faults,
            }
        )
    for fault in (*report.faults, *report.index_faults):
        print_note(fault)
    if not report.is_sound:
        remedy = "restore a copy or build it again" if report.faults else "run verify --repair"
        raise CollectionError(f"{folder} is damaged: {remedy}")
    if not json:
        print_note(f"{folder}: {report.items} items, {report.files} files, all intact")


@app.command()
def compact(
    folder: Folder,
    kind: KindOption = "auto",
    target: Target = 0.95,
    full: Annotated[
        bool, typer.Option("--full", help="Drop every deleted row, however much is rewritten.")
    ] = False,
) -> None:
    """Drop deleted rows, merge segments where worthwhile, and build indexes.

    [bold]Example:[/] twinlens index compact photos.index
    """
    from twinlens.index.maintenance import IndexPlan, optimise
    from twinlens.index.writer import Writer

    with Writer(folder) as writer, BuildDisplay() as display:
        writer.compact(full=full)
        optimise(writer, IndexPlan(kind, target), display.stage)


@app.command("export")
def export_collection(
    folder: Folder,
    out: Annotated[
        str, typer.Option("--out", "-o", help="Folder to write, or s3://...", metavar="DIR")
    ],
    part: Annotated[int, typer.Option(help="Rows per part.", min=1)] = 100_000,
) -> None:
    """Write embeddings as .npy and metadata as Parquet (JSONL without pyarrow), in parts.

    [bold]Example:[/] twinlens index export photos.index -o export/
    """
    from twinlens.index.collection import Collection
    from twinlens.index.ingest.import_export import export_to

    with Collection(folder) as collection:
        count = export_to(collection, out, part)
    print_note(f"wrote {count} items to {out}")


@app.command("import")
def import_collection(
    source: Annotated[str, typer.Argument(help="Folder with .npy and metadata parts, or s3://...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The collection.", metavar="DIR")],
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", help="The bundle that made the embeddings.")
    ],
    id_column: Annotated[str | None, typer.Option(help="Column that holds ids.")] = None,
    kind: KindOption = "auto",
    target: Target = 0.95,
) -> None:
    """Import embeddings made elsewhere: .npy files with Parquet or JSONL metadata.

    [bold]Example:[/] twinlens index import laion/ -o laion.index -b clip.bundle
    """
    from twinlens.index.ingest.import_export import import_from
    from twinlens.index.maintenance import IndexPlan
    from twinlens.index.writer import Writer

    encoder = open_encoder(bundle)
    ensure_collection(out, encoder)
    with Writer(out) as writer, BuildDisplay() as display:
        writer.collection.require_bundle(encoder.revision, encoder.name)
        count = import_from(writer, source, id_column)
        add_index(writer, encoder, None, IndexPlan(kind, target), display)
    print_note(f"{out}: {count} items imported")
