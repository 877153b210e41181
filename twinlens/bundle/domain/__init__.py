"""The domain of a model: a sign that tells its pictures from others, stored with the bundle.

What must stay true: the sign is information beside the embeddings; it changes no answer, and a
bundle without one causes no warning.
Imported by: `cli`, `index`, `serving`.
"""
