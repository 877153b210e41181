"""Rewrites foreign ONNX graphs into the bundle's form; the only part of `bundle` that needs onnx.

What must stay true: it is imported only while a model is pulled, and the nodes that it adds to a
graph mean the same in every opset from 11 on.
Imported by: pull.
"""
