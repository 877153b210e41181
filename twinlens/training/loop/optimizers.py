"""Optimizers and their parameter groups: decay, frozen parameters, constant learning rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from twinlens.training.config import TrainingSettings
from twinlens.training.loop.layers import rate_shares
from twinlens.training.nn.network import Network
from twinlens.training.objective import ParamGroup
from twinlens.training.schedules import TrainingProgress, warmed_cosine

REFERENCE_BATCH = 256
DEFAULT = ParamGroup("")


class Lars(torch.optim.Optimizer):
    """SGD whose step is scaled, layer by layer, to the norm of the weights (You et al. 2017).

    https://arxiv.org/abs/1708.03888. Groups without decay (biases, norms) take plain SGD steps.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], lr: float, momentum: float, trust: float = 0.001
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})
        self.trust = trust

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        assert closure is None, "Lars needs no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if group["adapts"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
            size, slope = parameter.norm(), gradient.norm()
            ratio = torch.where((size > 0) & (slope > 0), self.trust * size / slope, 1.0)
            gradient = gradient * ratio
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        parameter.add_(buffer, alpha=-group["lr"])


def parameter_groups(
    net: Network,
    exceptions: Sequence[ParamGroup],
    shares: Mapping[str, float] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return one group for each (exception, decay or not, share of the learning rate).

    Every parameter is in exactly one; `shares` holds the shares that are not 1, by name.
    """
    found: dict[tuple[ParamGroup, bool, float], list[nn.Parameter]] = {}
    for name, parameter in net.parts.named_parameters():
        if not parameter.requires_grad:
            continue
        rule = next((group for group in exceptions if name.startswith(group.prefix)), DEFAULT)
        decays = rule.decay and sum(length > 1 for length in parameter.shape) > 1
        found.setdefault((rule, decays, shares.get(name, 1.0)), []).append(parameter)
    return [
        {"params": parameters, "rule": rule, "adapts": decays, "share": share}
        for (rule, decays, share), parameters in found.items()
    ]


def open_optimizer(
    net: Network, exceptions: Sequence[ParamGroup], settings: TrainingSettings
) -> torch.optim.Optimizer:
    """Return the optimizer that the settings name."""
    groups = parameter_groups(net, exceptions, rate_shares(net, settings))
    fused = True if all(own.is_cuda for own in net.parameters()) else None  # one launch a group
    if settings.optimizer == "adamw":
        betas, eps = (settings.momentum, settings.beta2), settings.adam_eps
        return torch.optim.AdamW(groups, settings.lr, betas=betas, eps=eps, fused=fused)
    if settings.optimizer == "lars":
        return Lars(groups, settings.lr, settings.momentum, settings.trust)
    return torch.optim.SGD(groups, settings.lr, settings.momentum, fused=fused)


def schedule_rates(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, progress: TrainingProgress
) -> float:
    """Set learning rates and decays for this step; return the base learning rate."""
    base = settings.lr * rate_scale(settings)
    factor = warmed_cosine(progress, settings.warmup, settings.lr_floor)
    decay = settings.weight_decay
    if settings.weight_decay_end >= 0:
        rise = 1 - warmed_cosine(TrainingProgress(progress.step, progress.total), 0)
        decay += (settings.weight_decay_end - decay) * rise
    for group in optimizer.param_groups:
        rule: ParamGroup = group["rule"]
        moved = base * rule.lr_factor * group["share"]
        group["lr"] = moved if rule.schedule == "constant" else moved * factor
        group["weight_decay"] = decay if group["adapts"] else 0.0
    return base * factor


def drop_frozen(optimizer: torch.optim.Optimizer, progress: TrainingProgress) -> None:
    """Drop the gradients of groups that are still frozen."""
    for group in optimizer.param_groups:
        if progress.epoch < group["rule"].frozen_epochs:
            for parameter in group["params"]:
                parameter.grad = None


def rate_scale(settings: TrainingSettings) -> float:
    """Return the factor on `lr` for this batch."""
    ratio = settings.batch / REFERENCE_BATCH
    return {"linear": ratio, "sqrt": float(ratio**0.5), "none": 1.0}[settings.lr_scaling]
