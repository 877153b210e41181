"""The similarity node in ONNX: its definition, graphs with it, and its registration.

`register` is what serving imports and needs neither onnx nor torch; `functions` and `attach` write
graphs and need onnx. This file imports none of them.
Imported by: `bundle`, `cli` and `training`.
"""
