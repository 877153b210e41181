"""The measurements of `kernels_gpu` on a CUDA machine, a module for each part.

`stage` holds what all share: sizes, clocks, captured graphs. `losses` and `inference` check and
time the kernels, `peers` finds contenders, `tuning` tries tiles.
"""
