"""The similarity core on a GPU: the engine in Triton, its kernels, and their tile sizes.

What must stay true: every kernel also runs in Triton's interpreter and compiles where there is no
GPU; nothing here is imported before a tensor on a GPU is there.
Imported by: eager, engines, matryoshka, onnx, ops and similarity.
"""
