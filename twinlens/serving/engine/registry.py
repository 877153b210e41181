"""Which bundles are served under which names, and how one is swapped while requests run.

A request leases one model until its end; a replaced or unloaded model is closed when its last lease
ends. All of this runs on the event loop's thread. What must stay true: no request fails because of
a swap, and no answer mixes two revisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from twinlens.bundle.arrays import Pixels, Row
from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.serving.aliases import Alias
from twinlens.serving.engine.batcher import Batcher
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.failures import UnavailableError


@dataclass
class _Slot:
    """A model with its number of leases."""

    model: ServedModel
    leases: int = 0
    is_retired: bool = False


@dataclass
class Served:
    """All that is served under one name: a model for each precision, and where it came from."""

    slots: dict[str, _Slot]
    source: str
    created: int = 0

    @property
    def default(self) -> ServedModel:
        """The model for requests that name no precision."""
        return next(iter(self.slots.values())).model


class Registry:
    """The served models by name; the first name is the default."""

    def __init__(
        self,
        close: Callable[[ServedModel], None] = ServedModel.close,
        aliases: Mapping[str, Alias] | None = None,
    ) -> None:
        self._served: dict[str, Served] = {}
        self.aliases = dict(aliases or {})
        self.image_queues: tuple[Batcher[Pixels, Row], ...] = ()  # of every model
        self._close = close

    @property
    def names(self) -> list[str]:
        """The names, default first."""
        return list(self._served)

    def find(self, name: str) -> Served:
        """Return what is served as `name`, or under the name that it is an alias of."""
        served = self._served.get(name)
        if served is None and name in self.aliases:
            served = self._served.get(self.aliases[name].model)
        if served is None:
            known = ", ".join(self._served) or "none"
            other = f"; aliases are: {', '.join(self.aliases)}" if self.aliases else ""
            raise NotFoundError(
                f"model {name[:80]!r} is not served here; served are: {known}{other}; --alias "
                "NAME=MODEL adds a name",
                field="model",
                code="model_not_found",
            )
        return served

    def models(self) -> list[ServedModel]:
        """Return every model, of every name and precision."""
        return [slot.model for served in self._served.values() for slot in served.slots.values()]

    @contextmanager
    def lease(self, name: str | None = None, precision: str | None = None) -> Iterator[ServedModel]:
        """Lease a model for the duration of a request."""
        slot = self._choose(name, precision)
        slot.leases += 1
        try:
            yield slot.model
        finally:
            slot.leases -= 1
            self._close_if_done(slot)

    def serve(
        self, name: str, models: Mapping[str, ServedModel], *, source: str, created: int
    ) -> None:
        """Serve `models` (by precision) as `name` from now on; retire those that had the name."""
        old = self._served.get(name)
        slots = {precision: _Slot(model) for precision, model in models.items()}
        self._served[name] = Served(slots, source, created)
        self._list_image_queues()
        if old is not None:
            self._retire(old)

    def remove(self, name: str) -> None:
        """Stop serving `name`."""
        served = self.find(name)
        if name not in self._served:
            raise ConflictError(f"{name!r} is an alias; name the model", field="name")
        del self._served[name]
        self._list_image_queues()
        self._retire(served)

    def _list_image_queues(self) -> None:
        towers = [model.images for model in self.models()]
        self.image_queues = tuple(tower.batcher for tower in towers if tower is not None)

    def _choose(self, name: str | None, precision: str | None) -> _Slot:
        if not self._served:
            raise UnavailableError("no bundle is loaded")
        served = self.find(name) if name else next(iter(self._served.values()))
        if precision is None:
            return next(iter(served.slots.values()))
        if precision not in served.slots:
            raise InputError(
                f"precision {precision!r} is not loaded; choose from: {', '.join(served.slots)}",
                field="precision",
            )
        return served.slots[precision]

    def _retire(self, served: Served) -> None:
        for slot in served.slots.values():
            slot.is_retired = True
            self._close_if_done(slot)

    def _close_if_done(self, slot: _Slot) -> None:
        if slot.is_retired and slot.leases == 0:
            self._close(slot.model)
