"""From encoded bytes to the uint8 pixels of an image tower: limits, orientation, resize, crop.

What must stay true: preprocessing exists once; training, export, index and server share it.
Imported by: encoder, pull, `cli`, `index`, `serving` and `training`.
"""
