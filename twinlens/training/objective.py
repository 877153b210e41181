"""What a training method is: an `Objective`, which declares everything and owns nothing.

An objective declares its views, heads, state (EMA teachers, queues, centres), parameter groups and
chance loss; its loss is a pure function of tensors. The loop does everything else. What must stay
true: no objective holds a tensor, so that the loop can shard, chunk, checkpoint and replay any of
them in the same way.

Rows: `student` and `teacher` return a dict of tensors whose first dimension is the image of the
batch, (n, ...) or (n, views, ...). Cached gradients split along it, and ranks gather along it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from twinlens.training.nn.network import Network
from twinlens.training.nn.teachers import Teaching
from twinlens.training.nn.visual_tokenizer import Codes
from twinlens.training.schedules import Cosine, Linear, TrainingProgress
from twinlens.training.views.blends import Blends
from twinlens.training.views.crops import Crops
from twinlens.training.views.lab import Greying
from twinlens.training.views.masks import Masks
from twinlens.training.views.noise import Noise
from twinlens.training.views.tiles import Puzzle

BatchRows = dict[str, Tensor]
REPRESENTATION = "representation"  # the row that monitors read: the encoder's output, detached
# Extras that encoders read and losses do not. They are not gathered over ranks, since texts are
# padded to the longest of a rank.
LOCKED = "locked"
ENCODED = ("tokens", "negatives", LOCKED)


@dataclass(frozen=True)
class Batch:
    """One batch on the device: views by group (n, views, 3, s, s), and labels, tokens, indices."""

    views: Mapping[str, Tensor]
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._any())

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        return self._any().device

    def _any(self) -> Tensor:
        return next(iter((self.views or self.extra).values()))

    def part(self, start: int, stop: int) -> Batch:
        """Return the rows `start` to `stop`."""
        cut = slice(start, stop)
        return Batch(
            {name: views[cut] for name, views in self.views.items()},
            {name: rows[cut] for name, rows in self.extra.items()},
        )


@dataclass(frozen=True)
class Ema:
    """An EMA teacher of the named parts: teacher <- m * teacher + (1 - m) * part.

    With `statistics` it copies BatchNorm's running statistics, since it sees no images.
    """

    parts: tuple[str, ...]
    momentum: Cosine
    statistics: bool = False


@dataclass(frozen=True)
class Queue:
    """The last `size` rows (size, dim) named `source`: the teacher's, or the student's detached.

    With `view`, those of that view alone. Initialised with random unit rows.
    """

    name: str
    size: int
    dim: int
    source: str
    view: int | None = None


@dataclass(frozen=True)
class Centre:
    """The running mean (dim,) of the teacher's rows named `source`.

    With `count`, rows are sums, and the rows of that name (n,) are their counts; a batch with count
    0 leaves the centre unchanged.
    """

    name: str
    dim: int
    momentum: float
    source: str
    count: str = ""


@dataclass(frozen=True)
class Clamp:
    """Keeps a parameter of the network within bounds, in place, after each step."""

    parameter: str
    low: float
    high: float


@dataclass(frozen=True)
class UnitRows:
    """Keeps the rows of a parameter on the unit sphere, in place, from the start."""

    parameter: str


Declaration = Ema | Queue | Centre | Clamp | UnitRows


@dataclass(frozen=True)
class Captions:
    """A caption of each image, `extra["tokens"]` (n, length).

    With `negatives`, as many captions that are almost true of it: `extra["negatives"]` (n,
    negatives, length).
    """

    negatives: int = 0


@dataclass(frozen=True)
class Locked:
    """The frozen image tower's embedding of each image, computed once: `extra["locked"]`.

    There are no views then: the tower sees each picture as it would be served.
    """


# `Masks`: `extra["mask"]` (n, views, patches) of the views `global`; `Codes`: `extra["codes"]`
# (n, patches), their visual codes; `Teaching`: the teachers' embeddings; `Blends`: `other` (n,),
# the label of the image that a view is blended with, and `kept` (n,), the view's own share;
# `Puzzle`: the `answer` (n,) and the `shifts` of tiles; `Greying`: the `colours` (n, cells, 2) of
# the views; `Noise`: the views before it, `clean` (n, 3, s, s).
Extra = Captions | Masks | Codes | Locked | Teaching | Blends | Puzzle | Greying | Noise
AnyExtra = TypeVar(
    "AnyExtra", Captions, Masks, Codes, Locked, Teaching, Blends, Puzzle, Greying, Noise
)


@dataclass(frozen=True)
class ParamGroup:
    """How the parameters whose names start with `prefix` differ from the rest."""

    prefix: str
    schedule: Literal["cosine", "constant"] = "cosine"
    lr_factor: float = 1.0
    decay: bool = True
    frozen_epochs: float = 0.0


@dataclass(frozen=True)
class LossInputs:
    """All that a loss may read: rows of student and teacher, parameters, state, progress.

    If the objective is `coupled`, the rows are those of the whole global batch, on every rank.
    """

    student: BatchRows
    teacher: BatchRows
    shared: BatchRows
    state: Mapping[str, Tensor]
    extra: Mapping[str, Tensor]
    progress: TrainingProgress
    teacher_shared: BatchRows = field(default_factory=dict)


@dataclass(frozen=True)
class HealthSpec:
    """What the doctor checks in a run of this method; the loop ignores it."""

    head: str = ""  # the student's rows that must stay spread out
    unit: tuple[str, ...] = ()  # the student's rows whose length must not affect the loss
    stopped: tuple[str, ...] = ()  # the student's rows that are targets and take no gradient
    needed: tuple[str, ...] = ()  # parts without which the method collapses


@dataclass(frozen=True)
class Objective(abc.ABC):
    """A method. Subclasses are frozen dataclasses; their fields are the method's settings."""

    name: ClassVar[str]
    summary: ClassVar[str]
    coupled: ClassVar[bool]  # does a row's loss depend on other rows of the batch?
    needs: ClassVar[tuple[str, ...]] = ()  # of "labels", "captions"
    paths: ClassVar[Mapping[str, tuple[str, ...]]] = {"image": ("image",)}  # the served parts
    served: ClassVar[Literal["student", "teacher"]] = "student"
    health: ClassVar[HealthSpec] = HealthSpec()

    @abc.abstractmethod
    def views(self) -> Mapping[str, Crops]:
        """Return the groups of views."""

    @abc.abstractmethod
    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """Return the parts on top of the towers with the given output widths.

        `widths["patch"]` is the side of a patch in pixels, if the image tower has patches;
        `widths["side"]` is that of the run's images.
        """

    @abc.abstractmethod
    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return the rows that carry gradient, and `REPRESENTATION`."""

    @abc.abstractmethod
    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the scalar `loss`, and any named terms to log."""

    @abc.abstractmethod
    def chance(self, batch: int) -> float:
        """Return the loss of an encoder that cannot tell images apart."""

    def extras(self) -> tuple[Extra, ...]:
        """Return what a batch holds for this method besides views and labels."""
        return ()

    def find_extra(self, kind: type[AnyExtra]) -> AnyExtra | None:
        """Return the declared extra of a kind, if there is one."""
        return next((extra for extra in self.extras() if isinstance(extra, kind)), None)

    def is_fitted(self) -> bool:
        """Tell whether the heads can be built without the data."""
        return True

    def fit(self, classes: int) -> Self:
        """Return the method for data with so many classes."""
        return self

    def frozen(self) -> tuple[str, ...]:
        """Return the parts that never train."""
        return ("image",) if self.find_extra(Locked) is not None else ()

    def teacher(self, net: Network, batch: Batch) -> BatchRows:
        """Return the rows of the EMA teacher; called without gradient."""
        return {}

    def shared(self, net: Network) -> BatchRows:
        """Return the parameters that the loss itself uses."""
        return {}

    def teacher_shared(self, net: Network) -> BatchRows:
        """Return the parameters of the EMA teacher that the loss itself uses."""
        return {}

    def state(self) -> tuple[Declaration, ...]:
        """Return the state that is kept between steps, with its updates."""
        return ()

    def groups(self) -> tuple[ParamGroup, ...]:
        """Return the exceptions among the parameters; vectors never decay in any case."""
        return ()


Schedule = Cosine | Linear


def per_view(net: Network, path: tuple[str, ...], views: Tensor) -> tuple[Tensor, Tensor]:
    """Run views (n, v, 3, s, s) along `path` in one forward: representation and result, (n, v, d).

    The representation is the output of the first part of the path, without gradient.
    """
    n, v = views.shape[:2]
    representation = net[path[0]](views.flatten(0, 1))
    out = representation
    for part in path[1:]:
        out = net[part](out)
    return representation.detach().unflatten(0, (n, v)), out.unflatten(0, (n, v))


def unit(rows: Tensor) -> Tensor:
    """Return the rows on the unit sphere of the last dimension."""
    return torch.nn.functional.normalize(rows, dim=-1)
