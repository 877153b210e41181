"""Rewrites foreign ONNX graphs into the bundle's shape; the only part of `bundle` that needs onnx.

What must stay true: it is imported while a model is pulled and at no other time, and what it adds
to a graph means the same in every opset from 11 on.
Imported by: pull.
"""
