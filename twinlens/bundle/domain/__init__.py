"""What a model knows: a sign that tells pictures of its domain from others, stored with the bundle.

What must stay true: the sign is information beside the embeddings; it changes no answer, and a
bundle without one is never warned about.
Imported by: `cli`, `index`, `serving`.
"""
