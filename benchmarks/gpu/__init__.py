"""What `kernels_gpu` measures on a CUDA machine, a file for each part.

`stage` holds what all share: sizes, clocks, captured graphs. `losses` and `inference` check and
time the kernels, `peers` finds what is timed beside them, `tuning` tries tiles.
"""
