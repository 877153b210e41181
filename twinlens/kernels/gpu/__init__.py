"""The similarity core on a GPU: the engine in Triton, its kernels, and their tile sizes.

What must stay true: every kernel also runs in Triton's interpreter and compiles without a GPU;
nothing here is imported before there is a tensor on a GPU.
Imported by: eager, engines, matryoshka, onnx, ops and similarity.
"""
