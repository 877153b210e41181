"""What lives between steps: EMA twins, rings and centres, renewed in one place after each step.

The order is fixed and the same for all: optimizer step, then twin, then ring, then centre, then
clamps and unit rows. So a loss never meets a key of its own batch in the queue, and a centre is
used before it is moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from twinlens.training.distributed.ranks import Ranks
from twinlens.training.distributed.sharding import local, whole
from twinlens.training.nn.network import Network
from twinlens.training.objective import Centre, Clamp, Declaration, Ema, Ring, Rows, UnitRows
from twinlens.training.schedules import Progress
from twinlens.training.seeds import generator


class State(nn.Module):
    """The declared state of a run; its `state_dict` is what a checkpoint keeps."""

    def __init__(self, declared: Sequence[Declaration], net: Network, seed: int) -> None:
        super().__init__()
        self.emas = [item for item in declared if isinstance(item, Ema)]
        self.rings = [item for item in declared if isinstance(item, Ring)]
        self.centres = [item for item in declared if isinstance(item, Centre)]
        self.clamps = [item for item in declared if isinstance(item, Clamp)]
        self.units = [item for item in declared if isinstance(item, UnitRows)]
        self.sources = {ring.source for ring in self.rings} | {it.source for it in self.centres}
        self._make_unit(net)
        parts = tuple(dict.fromkeys(name for ema in self.emas for name in ema.parts))
        self.twin = net.twin(parts) if parts else None
        for number, ring in enumerate(self.rings):
            rows = torch.randn(ring.size, ring.dim, generator=generator(seed, 23, number))
            self.register_buffer(ring.name, nn.functional.normalize(rows, dim=1))
            self.register_buffer(_cursor(ring), torch.zeros((), dtype=torch.int64))
        for centre in self.centres:
            self.register_buffer(centre.name, torch.zeros(centre.dim))

    def tensors(self) -> Mapping[str, Tensor]:
        """Return rings and centres by name, for the loss."""
        names = [ring.name for ring in self.rings] + [centre.name for centre in self.centres]
        return {name: self.get_buffer(name) for name in names}

    @torch.no_grad()
    def renew(self, net: Network, taught: Sequence[Rows], progress: Progress, ranks: Ranks) -> None:
        """Move everything on by one optimizer step; `taught` holds each micro-batch's sources."""
        for ema in self.emas:
            self._follow(net, ema, progress)
        for ring in self.rings:
            self._push(ring, ranks.gather(_joined(taught, ring.source)))
        for centre in self.centres:
            rows = _joined(taught, centre.source)
            mean = ranks.mean(rows.flatten(0, -2).mean(dim=0))
            self.get_buffer(centre.name).lerp_(mean, 1 - centre.momentum)
        for clamp in self.clamps:
            local(net.parts.get_parameter(clamp.parameter)).clamp_(clamp.low, clamp.high)
        self._make_unit(net)

    @torch.no_grad()
    def _make_unit(self, net: Network) -> None:
        for item in self.units:
            rows = local(net.parts.get_parameter(item.parameter))
            rows.copy_(nn.functional.normalize(rows, dim=-1))

    def _follow(self, net: Network, ema: Ema, progress: Progress) -> None:
        assert self.twin is not None, "an Ema was declared without a twin. This is a bug"
        weight = 1 - ema.momentum.at(progress)
        for name in ema.parts:
            pairs = zip(self.twin[name].parameters(), net[name].parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(whole(fast).to(slow.dtype), weight)

    def _push(self, ring: Ring, rows: Tensor) -> None:
        """Write the rows over the oldest ones; more rows than room leaves the last of them."""
        rows = rows.flatten(0, -2)[-ring.size :]
        cursor = self.get_buffer(_cursor(ring))
        places = (cursor + torch.arange(len(rows), device=rows.device)) % ring.size
        buffer = self.get_buffer(ring.name)
        buffer[places] = rows.to(buffer.dtype)
        cursor.add_(len(rows)).remainder_(ring.size)


def _cursor(ring: Ring) -> str:
    return f"{ring.name}_cursor"


def _joined(taught: Iterable[Rows], name: str) -> Tensor:
    return torch.cat([rows[name] for rows in taught])
