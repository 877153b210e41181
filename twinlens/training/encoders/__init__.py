"""Encoders by name: own ResNets and ViTs, any timm or open_clip image model, a text transformer.

A tower maps normalised images (n, 3, h, w) or tokens (n, length) to representations (n, width) and
has a `width`. What must stay true: an encoder knows no method and no data.
Imported by: nn, objectives, runs, evaluation, export, report and loop.
"""
