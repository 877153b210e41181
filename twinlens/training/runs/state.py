"""State kept between steps: EMA teachers, queues and centres, updated here after each step.

What must stay true: the order is optimizer step, EMA teacher, queues, centres, then clamps and unit
rows. So a loss never sees a key of its own batch in the queue, and a centre is used before it is
updated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from twinlens.training.distributed.ranks import Ranks
from twinlens.training.distributed.sharding import local, whole
from twinlens.training.nn.network import Network
from twinlens.training.objective import BatchRows, Centre, Clamp, Declaration, Ema, Queue, UnitRows
from twinlens.training.schedules import TrainingProgress
from twinlens.training.seeds import generator


class State(nn.Module):
    """The declared state of a run; its `state_dict` is what a checkpoint keeps."""

    def __init__(self, declared: Sequence[Declaration], net: Network, seed: int) -> None:
        super().__init__()
        self.emas = [item for item in declared if isinstance(item, Ema)]
        self.queues = [item for item in declared if isinstance(item, Queue)]
        self.centres = [item for item in declared if isinstance(item, Centre)]
        self.clamps = [item for item in declared if isinstance(item, Clamp)]
        self.units = [item for item in declared if isinstance(item, UnitRows)]
        self.sources = {queue.source for queue in self.queues} | {it.source for it in self.centres}
        self._make_unit(net)
        parts = tuple(dict.fromkeys(name for ema in self.emas for name in ema.parts))
        self.ema_teacher = net.copy_frozen(parts) if parts else None
        for number, queue in enumerate(self.queues):
            rows = torch.randn(queue.size, queue.dim, generator=generator(seed, 23, number))
            self.register_buffer(queue.name, nn.functional.normalize(rows, dim=1))
            self.register_buffer(_cursor(queue), torch.zeros((), dtype=torch.int64))
        for centre in self.centres:
            self.register_buffer(centre.name, torch.zeros(centre.dim))

    def tensors(self) -> Mapping[str, Tensor]:
        """Return queues and centres by name, for the loss."""
        names = [queue.name for queue in self.queues] + [centre.name for centre in self.centres]
        return {name: self.get_buffer(name) for name in names}

    @torch.no_grad()
    def update(
        self,
        net: Network,
        state_rows: Sequence[BatchRows],
        progress: TrainingProgress,
        ranks: Ranks,
    ) -> None:
        """Update everything after an optimizer step; `state_rows` has the rows by micro-batch."""
        for ema in self.emas:
            self._follow(net, ema, progress)
        for queue in self.queues:
            rows = _joined(state_rows, queue.source)
            self._push(queue, ranks.gather(rows if queue.view is None else rows[:, queue.view]))
        for centre in self.centres:
            self._centre(centre, state_rows, ranks)
        for clamp in self.clamps:
            local(net.parts.get_parameter(clamp.parameter)).clamp_(clamp.low, clamp.high)
        self._make_unit(net)

    @torch.no_grad()
    def _make_unit(self, net: Network) -> None:
        for item in self.units:
            rows = local(net.parts.get_parameter(item.parameter))
            rows.copy_(nn.functional.normalize(rows, dim=-1))

    def _centre(self, centre: Centre, state_rows: Sequence[BatchRows], ranks: Ranks) -> None:
        """Move a centre towards the mean of the batch's rows; rows may be sums with counts."""
        rows = _joined(state_rows, centre.source).flatten(0, -2)
        if not centre.count:
            self.get_buffer(centre.name).lerp_(ranks.mean(rows.mean(dim=0)), 1 - centre.momentum)
            return
        count = _joined(state_rows, centre.count).to(rows.dtype).sum()
        both = ranks.mean(torch.cat([rows.sum(dim=0), count[None]]))
        mean, share = both[:-1] / both[-1].clamp(min=1e-12), (1 - centre.momentum) * (both[-1] > 0)
        self.get_buffer(centre.name).lerp_(mean, share.to(mean.dtype))

    def _follow(self, net: Network, ema: Ema, progress: TrainingProgress) -> None:
        assert self.ema_teacher is not None, "an Ema was declared without a teacher. This is a bug"
        weight = 1 - ema.momentum.at(progress)
        for name in ema.parts:
            slow: list[Tensor] = list(self.ema_teacher[name].parameters())
            pairs = zip(slow, net[name].parameters(), strict=True)
            fast = [whole(new).to(old.dtype) for old, new in pairs]
            if slow:
                torch._foreach_lerp_(slow, fast, weight)
            if ema.statistics:
                kept = dict(net[name].named_buffers())
                for key, buffer in self.ema_teacher[name].named_buffers():
                    buffer.copy_(kept[key])

    def _push(self, queue: Queue, rows: Tensor) -> None:
        """Overwrite the oldest rows; of more rows than `size`, the last are kept."""
        rows = rows.flatten(0, -2)[-queue.size :]
        cursor = self.get_buffer(_cursor(queue))
        places = (cursor + torch.arange(len(rows), device=rows.device)) % queue.size
        buffer = self.get_buffer(queue.name)
        buffer[places] = rows.to(buffer.dtype)
        cursor.add_(len(rows)).remainder_(queue.size)


def _cursor(queue: Queue) -> str:
    return f"{queue.name}_cursor"


def _joined(state_rows: Iterable[BatchRows], name: str) -> Tensor:
    return torch.cat([rows[name] for rows in state_rows])
