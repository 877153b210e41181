"""Calibration of a bundle's cosines: probabilities, and when none of the offered texts fits.

What must stay true: calibration is information beside the embeddings; scores and their order do not
change, and a bundle without one answers as before.
Imported by: tagging, `cli`, `index`, `serving` and `training`.
"""
