"""A workaround for one bug: oneDNN's bf16 gradient of a strided 3x3 convolution of a single pixel.

It reads uninitialised memory, so gradients differ between calls and are sometimes NaN. Small images
reach such a stage in any network that halves its maps five times. What must stay true: the output
is identical to the bit, since an added column and row of zeros replace the convolution's own
padding.
"""

from __future__ import annotations

from torch import Tensor, nn


def guard_single_pixels(model: nn.Module) -> None:
    """Give the strided 3x3 convolutions of a model four pixels where there is one."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _strides(module):
            module.register_forward_pre_hook(_widen)


def _strides(module: nn.Conv2d) -> bool:
    return (module.kernel_size, module.stride, module.padding) == ((3, 3), (2, 2), (1, 1))


def _widen(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    if given[0].shape[-2:] != (1, 1):
        return None
    return (nn.functional.pad(given[0], (0, 1, 0, 1)),)
