"""Gradient checkpointing: blocks keep only their inputs, and run again for the backward pass.

Chen et al. 2016, https://arxiv.org/abs/1604.06174. What must stay true: values and gradients equal
those of a tower that keeps everything, with dropout too, and BatchNorm counts a batch once.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from twinlens.errors import InputError

STACK = re.compile(r"(?:^|\.)(?:blocks|resblocks|stages|layers|layer\d+)$")


class RecomputedForward:
    """The forward pass of a block that runs again when its gradient is needed."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.norms = [
            module
            for module in block.modules()
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
        ]

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Run the block."""
        run = functools.partial(type(self.block).forward, self.block)
        if not (self.block.training and torch.is_grad_enabled()):
            return run(*given, **named)
        return checkpoint(run, *given, use_reentrant=False, context_fn=self._contexts, **named)

    def _contexts(self) -> tuple[Any, Any]:
        return contextlib.nullcontext(), self._counted_once()

    @contextlib.contextmanager
    def _counted_once(self) -> Iterator[None]:
        """Restore running statistics after the block has run again."""
        kept: list[tuple[Tensor, Tensor]] = [
            (buffer, buffer.clone()) for norm in self.norms for buffer in norm.buffers()
        ]
        try:
            yield
        finally:
            for buffer, before in kept:
                buffer.data.copy_(before)  # autograd holds the buffer, which must not change


def recompute_blocks(part: str, tower: nn.Module) -> None:
    """Make the blocks of a tower run again for their gradient."""
    stacks = [(name, module) for name, module in tower.named_modules() if STACK.search(name)]
    inner = [
        module
        for name, module in stacks
        if not any(other.startswith(f"{name}.") for other, _ in stacks)
    ]
    blocks = [block for module in inner for block in module.children() if [*block.parameters()]]
    if not blocks:
        raise InputError(
            f"gradient_checkpointing is set, and the {part} tower has no blocks one after the"
            " other; --set gradient_checkpointing=false, or another encoder",
            field="gradient_checkpointing",
        )
    for block in blocks:
        block.forward = RecomputedForward(block)
