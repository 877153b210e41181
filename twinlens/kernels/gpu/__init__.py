"""The similarity core on a GPU: the engine in Triton, its kernels, and their tile sizes.

What must stay true: every kernel also runs in Triton's interpreter and compiles where there is no
GPU. Only `kernels.ops`, `kernels.similarity` and `kernels.onnx` import it, when a tensor is there.
"""
