"""Teachers' embeddings of a run's views and captions: computed once, kept, read by every run.

A view is made from a seed of its picture and number, at the size that a teacher takes, and again at
the student's size when it trains. What must stay true: both see the same crop in the same colours;
the folder is named by teachers, data and views, so that no student and no batch changes its
content.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from twinlens.bundle.arrays import Pixels
from twinlens.bundle.encoder import open_bundle
from twinlens.cache import find_cache
from twinlens.errors import ConflictError
from twinlens.training.config import Config
from twinlens.training.data.decoding import WholePicture, stored_side
from twinlens.training.data.feeder import Draft
from twinlens.training.data.pixels import PixelBatch, PixelStore
from twinlens.training.data.records import DataSource, fingerprint
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.evaluation.embeddings import (
    BundleEmbedder,
    Embedder,
    RunEmbedder,
    embed_texts,
)
from twinlens.training.loop.row_store import KeptRows, RowStore
from twinlens.training.nn.teachers import TeacherSettings, Teaching, join_rows
from twinlens.training.progress import Display
from twinlens.training.runs.teachers import (
    describe_teacher,
    is_trained,
    open_teacher,
    split_sources,
)
from twinlens.training.seeds import row_seeds
from twinlens.training.views.crops import Crops
from twinlens.training.views.draws import RowDraws
from twinlens.training.views.maker import make_view, parts
from twinlens.training.views.pictures import Pictures, lay_out
from twinlens.training.views.plans import draw_plan

FOLDER = "teachers"
TEACHER, TEXT, TOKENS = "teacher", "teacher_text", "teacher_tokens"
KEPT = torch.float16  # dtype of kept rows: cosines stay within 1e-6
BLOCK = 64  # pictures in a forward pass


@dataclass(frozen=True)
class TaughtRows:
    """The kept rows of pictures, and those of captions by their text."""

    images: KeptRows
    texts: Tensor | None = None
    numbers: dict[str, int] = dataclasses.field(default_factory=dict)

    def of(self, texts: Sequence[str]) -> Tensor:
        """Return the rows of captions."""
        assert self.texts is not None, "captions that no teacher has read. This is a bug"
        return self.texts[[self.numbers[text] for text in texts]].float()


@dataclass(frozen=True)
class TeacherAnswers:
    """Adds `teacher` (n, dim) to a batch, and `teacher_tokens` if they are kept."""

    rows: dict[str, Tensor]
    places: dict[int, int]  # record -> row
    needs_views: ClassVar[bool] = False

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Return the embeddings of the view that the batch will show."""
        places = [self.places[record] for record in draft.records]
        return {name: rows[places, draft.view].float() for name, rows in self.rows.items()}


@dataclass(frozen=True)
class Teachers:
    """Opened teachers: they embed views of pictures, and captions."""

    embedders: tuple[Embedder, ...]
    settings: TeacherSettings
    crops: Crops
    token_teacher: int = -1  # whose patch tokens are kept

    def __call__(self, pixels: list[Pixels], records: list[int], view: int) -> dict[str, Tensor]:
        """Return `teacher`, and `teacher_tokens` if they are asked for."""
        pictures = lay_out(pixels)
        seeds = row_seeds(self.settings.seed, view, records)
        shown = {side: show(pictures, self.crops, seeds, side) for side in {*self.settings.sizes}}
        pairs = zip(self.embedders, self.settings.sizes, strict=True)
        rows = [in_blocks(one.images, shown[side]) for one, side in pairs]
        found = {TEACHER: join_rows(rows).to(KEPT)}
        if self.token_teacher >= 0:
            one, side = self.embedders[self.token_teacher], self.settings.sizes[self.token_teacher]
            assert isinstance(one, RunEmbedder), "patch tokens of a bundle. This is a bug"
            found[TOKENS] = in_blocks(one.patches, shown[side]).to(KEPT)
        return found

    def read(self, texts: list[str]) -> Tensor:
        """Return rows (n, dim) of captions."""
        return join_rows([embed_texts(one, texts) for one in self.embedders]).to(KEPT)


def show(pictures: Pictures, crops: Crops, seeds: list[int], side: int) -> Tensor:
    """Return a view of each picture as bytes (n, side, side, 3)."""
    plan = draw_plan(RowDraws(seeds), crops, pictures.sizes, side, 0)
    views = [
        make_view(pictures.canvas[part], plan.part(part), side)
        for part in parts(pictures.canvas, side)
    ]
    return torch.cat(views).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def in_blocks(answer: Callable[[PixelBatch], Tensor], pixels: Tensor) -> Tensor:
    """Return a teacher's rows of pixels (n, side, side, 3), a few pictures at a time."""
    return torch.cat([answer(some.numpy()) for some in pixels.split(BLOCK)])


def open_teachers(settings: TeacherSettings, crops: Crops, tokens: bool) -> Teachers:
    """Open the teachers; refuse one that differs from the run's settings."""
    sources = split_sources(settings.sources)
    for source, revision in zip(sources, settings.revisions, strict=True):
        if describe_teacher(source).revision != revision:
            raise ConflictError(
                f"teacher {source!r} has changed since the run's settings were made; set"
                " teachers again and choose another --out",
                field="teachers",
            )
    embedders = tuple(
        RunEmbedder(open_teacher(source))
        if is_trained(source)
        else BundleEmbedder(open_bundle(source, engine="onnxruntime"))  # the same on every machine
        for source in sources
    )
    place = next((n for n, dim in enumerate(settings.token_dims) if dim), -1) if tokens else -1
    return Teachers(embedders, settings, crops, place)


def provide_taught(
    config: Config, source: DataSource, ranks: Ranks, display: Display
) -> TaughtRows | None:
    """Return the teachers' rows, if there are teachers; the first rank computes missing ones.

    An interrupted pass continues where it stopped.
    """
    teaching = config.objective.find_extra(Teaching)
    if teaching is None:
        return None
    settings, folder = teaching.settings, find_cache() / FOLDER / name_pass(config, source)
    kept = RowStore(folder, len(source.records), settings.views)
    captions = list_captions(source) if teaching.texts else []
    read = RowStore(folder / "texts", len(captions))
    if ranks.first:
        if kept.is_complete and read.is_complete:
            display.say(f"reading the teachers' embeddings from {folder}")
        else:
            _ask(config, teaching, source, captions, (kept, read), display)
            display.say(f"the teachers' embeddings are kept in {folder}")
    ranks.wait()
    texts = read.read().rows[TEXT][:, 0] if captions else None
    return TaughtRows(kept.read(), texts, {text: row for row, text in enumerate(captions)})


def _ask(
    config: Config,
    teaching: Teaching,
    source: DataSource,
    captions: list[str],
    stores: tuple[RowStore, RowStore],
    display: Display,
) -> None:
    teachers = open_teachers(teaching.settings, config.objective.views()["global"], teaching.tokens)
    images, texts = stores
    decode = WholePicture(picture_side(config))
    with contextlib.closing(PixelStore(source, decode, memory_bytes=0)) as store:
        images.fill(store, teachers, display)
    for start, stop in texts.list_missing():
        texts.write(start, {TEXT: teachers.read(captions[start:stop])}, list(range(start, stop)))
        display.advance("reading captions", stop, len(captions), {})


def name_pass(config: Config, source: DataSource) -> str:
    """Return a hash of teachers, data and views: of everything that the rows depend on."""
    settings, teaching = config.objective.teachers, config.objective.find_extra(Teaching)
    assert teaching is not None, "a pass without teachers. This is a bug"
    known = {
        "revisions": settings.revisions,
        "seed": settings.seed,
        "views": settings.views,
        "crops": dataclasses.asdict(config.objective.views()["global"]),
        "stored": picture_side(config),
        "texts": teaching.texts,
        "tokens": teaching.tokens,
    }
    content = fingerprint(source.records) + json.dumps(known, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def list_captions(source: DataSource) -> list[str]:
    """Return the captions of the data, each once."""
    return sorted({text for record in source.records for text in record.captions})


def picture_side(config: Config) -> int:
    """Return the short side to keep pictures at: enough for student and teachers."""
    settings, teaching = config.settings, config.objective.find_extra(Teaching)
    sizes = teaching.settings.sizes if teaching is not None else ()
    return stored_side(settings.stored_size, max(settings.image_size, *sizes, 0))
