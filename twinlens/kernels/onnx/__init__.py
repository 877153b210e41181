"""The similarity node in ONNX: its definition, the file that holds it, and its hook in the runtime.

`register` is what serving imports and needs neither onnx nor torch; `functions` and `attach` write
graphs and need onnx. This file imports none of them.
Imported by: `bundle`, `cli` and `training`.
"""
