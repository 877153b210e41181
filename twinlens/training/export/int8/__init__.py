"""int8 graphs of a tower: dynamic quantisation of matrix products, static of convolutions.

`dynamic` is for transformers and texts, `static` for convolutional image towers with the pictures
of `calibration`.
Imported by: export.
"""
