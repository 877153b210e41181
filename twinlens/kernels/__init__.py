"""The similarity core softmax(scale * normalize(X) normalize(Y)^T), in every form it takes.

Importing this package imports neither torch nor onnx: pick the half that you need.
"""
