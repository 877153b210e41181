"""Tags of a picture from an open vocabulary: many words, of which a few are true.

What must stay true: every word is judged independently; a bundle without calibration gives no
probability.
Imported by: `cli` and `serving`.
"""
