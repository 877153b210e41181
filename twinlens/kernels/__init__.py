"""The similarity core softmax(scale * normalize(X) normalize(Y)^T): losses, inference, ONNX.

Importing this package imports neither torch nor onnx; its modules import what they need.
"""
