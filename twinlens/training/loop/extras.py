"""Builds the makers of the extras that an objective declares for its batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from twinlens.training.config import Config
from twinlens.training.data.captions import CaptionTokens
from twinlens.training.data.feeder import BatchExtra, Draft, number_labels, sample_views
from twinlens.training.data.negatives import Negatives
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.encoders.token_tower import TokenTower, side_step
from twinlens.training.loop.locked import open_embeddings
from twinlens.training.loop.run_data import RunData
from twinlens.training.loop.teaching import TeacherAnswers
from twinlens.training.nn.network import Network
from twinlens.training.nn.teachers import Teaching
from twinlens.training.nn.visual_tokenizer import (
    FILE,
    TRAIN,
    Codes,
    VisualTokenizer,
    provide_visual_tokenizer,
    read_visual_tokenizer,
)
from twinlens.training.objective import Captions, Locked
from twinlens.training.progress import Display
from twinlens.training.views.blends import Blends, blend, draw_blends
from twinlens.training.views.lab import Greying, take_colours
from twinlens.training.views.maker import ViewMaker
from twinlens.training.views.masks import Masks, draw_masks
from twinlens.training.views.noise import Noise, add_noise
from twinlens.training.views.tiles import Puzzle, draw_puzzles


@dataclass(frozen=True)
class ExtraContext:
    """The parts of a run that makers of extras need."""

    config: Config
    folder: Path
    data: RunData
    net: Network
    maker: ViewMaker
    ranks: Ranks
    device: torch.device
    display: Display

    @property
    def tower(self) -> TokenTower:
        """The image tower of a method that masks patches; building it checked for patches."""
        tower = self.net["image"]
        assert isinstance(tower, TokenTower), "patches of a tower without. This is a bug"
        return tower


@dataclass(frozen=True)
class PatchMasks:
    """Adds `mask` (n, views, patches) of the views `global`."""

    masks: Masks
    views: int
    cells: int
    needs_views: ClassVar[bool] = True

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Draw the masks of a batch."""
        shape = len(draft.records), self.views, self.cells, self.cells
        return {"mask": draw_masks(draft.draws, self.masks, shape)}


@dataclass(frozen=True)
class PatchCodes:
    """Adds `codes` (n, patches) of the first view of `global`."""

    tokenizer: VisualTokenizer
    needs_views: ClassVar[bool] = True

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Return the codes of a batch."""
        return {"codes": self.tokenizer.codes(draft.views["global"][:, 0])}


@dataclass(frozen=True)
class BlendedViews:
    """Blends the views `global` in place; adds `other` (n,), partners' labels, and `kept` (n,)."""

    blends: Blends
    labels: Tensor  # of each record
    needs_views: ClassVar[bool] = True

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Blend the views of a batch."""
        views = draft.views["global"]
        n, count, side = len(views), views.shape[1], views.shape[-1]
        plan = draw_blends(draft.draws, self.blends, n, side)
        if self.blends.mixup or self.blends.cutmix:
            for turn in range(count):
                views[:, turn] = blend(views[:, turn], plan)
        labels = self.labels[list(draft.records)]
        return {"other": labels[plan.partner], "kept": plan.share}


@dataclass(frozen=True)
class PuzzleDraws:
    """Adds `answer` (n,) and `shifts` (n, tiles, 2)."""

    puzzle: Puzzle
    needs_views: ClassVar[bool] = True

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Draw the puzzles of a batch."""
        return draw_puzzles(draft.draws, self.puzzle, len(draft.records))


@dataclass(frozen=True)
class GreyViews:
    """Removes the colours of the views `global` in place; adds them as `colours` (n, cells, 2)."""

    cell: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    needs_views: ClassVar[bool] = True

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Convert a batch to grey."""
        views = draft.views["global"][:, 0]
        mean, std = (views.new_tensor(row)[:, None, None] for row in (self.mean, self.std))
        grey, colours = take_colours((views * std + mean).clamp(0, 1), self.cell)
        views.copy_((grey - mean) / std)
        return {"colours": colours}


@dataclass(frozen=True)
class SpoiltViews:
    """Adds noise to the views `global` in place; keeps the originals as `clean` (n, 3, s, s)."""

    noise: Noise
    needs_views: ClassVar[bool] = True

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Add noise to a batch."""
        views = draft.views["global"][:, 0]
        clean = views.clone()
        views.copy_(add_noise(clean, self.noise, draft.draws))
        return {"clean": clean}


def open_extras(context: ExtraContext) -> tuple[BatchExtra, ...]:
    """Return the makers of the extras that the run's objective declares, in that order."""
    declared = context.config.objective.extras()
    return tuple(_OPENERS[type(extra)](extra, context) for extra in declared)


def _open_captions(extra: Captions, context: ExtraContext) -> BatchExtra:
    tokenizer, records = context.data.tokenizer, context.data.store.source.records
    assert tokenizer is not None, "captions without a text tower. This is a bug"
    negatives = Negatives(records, extra.negatives) if extra.negatives else None
    seed, rank, taught = context.config.settings.seed, context.ranks.rank, context.data.taught
    answers = taught.of if taught is not None and taught.texts is not None else None
    return CaptionTokens(records, tokenizer.batch, negatives, seed, rank, answers)


def _open_masks(extra: Masks, context: ExtraContext) -> BatchExtra:
    crops = context.config.objective.views()["global"]
    side = crops.side(context.config.settings.image_size, side_step(context.tower))
    cells = side // context.tower.patch
    return PatchMasks(extra, crops.count, cells)


def _open_codes(extra: Codes, context: ExtraContext) -> BatchExtra:
    """Return the maker of visual codes, after the first rank has provided the tokenizer file."""
    folder, seed, patch = context.folder, context.config.settings.seed, context.tower.patch
    if context.ranks.first:
        if extra.tokenizer == TRAIN and not (folder / FILE).is_file():
            context.display.say(f"training a visual tokenizer of {extra.size} codes first")
        samples = functools.partial(
            sample_views, context.data.store, context.maker, context.device, seed
        )
        provide_visual_tokenizer(extra, patch, folder, seed, samples, context.device)
    context.ranks.wait()
    tokenizer = read_visual_tokenizer(folder / FILE, patch, extra.size)
    return PatchCodes(tokenizer.to(context.device))


def _open_locked(extra: Locked, context: ExtraContext) -> BatchExtra:
    found = context.data.locked
    assert found is not None, "a locked tower that has not answered. This is a bug"
    return open_embeddings(found)


def _open_teaching(extra: Teaching, context: ExtraContext) -> BatchExtra:
    taught = context.data.taught
    assert taught is not None, "teachers that have not answered. This is a bug"
    places = {record: place for place, record in enumerate(taught.images.records)}
    return TeacherAnswers(taught.images.rows, places)


def _open_blends(extra: Blends, context: ExtraContext) -> BatchExtra:
    return BlendedViews(extra, number_labels(context.data.store.source, context.data.classes))


def _open_puzzles(extra: Puzzle, context: ExtraContext) -> BatchExtra:
    return PuzzleDraws(extra)


def _open_greying(extra: Greying, context: ExtraContext) -> BatchExtra:
    return GreyViews(extra.cell, context.maker.mean, context.maker.std)


def _open_noise(extra: Noise, context: ExtraContext) -> BatchExtra:
    return SpoiltViews(extra)


_OPENERS: Mapping[type, Callable[[Any, ExtraContext], BatchExtra]] = {
    Captions: _open_captions,
    Masks: _open_masks,
    Codes: _open_codes,
    Locked: _open_locked,
    Teaching: _open_teaching,
    Blends: _open_blends,
    Puzzle: _open_puzzles,
    Greying: _open_greying,
    Noise: _open_noise,
}
