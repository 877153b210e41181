"""int8 graphs of a tower: matrix products quantised as they run, convolutions by measured ranges.

`dynamic` is for transformers and texts, `static` for convolutional image towers, for which
`calibration` has the pictures.
Imported by: export.
"""
