"""What a bundle's cosines are worth: probabilities to believe, and when nothing offered fits.

What must stay true: it is information beside the embeddings; scores and their order stay what they
are, and a bundle without a calibration answers as before.
Imported by: tagging, `cli`, `index`, `serving` and `training`.
"""
