"""From encoded bytes to the uint8 pixels of an image tower: limits, orientation, resize, crop.

What must stay true: there is one preprocessing, shared by training, export, index and server.
Imported by: encoder, pull, `cli`, `index`, `serving` and `training`.
"""
