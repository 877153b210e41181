"""Open collections of a server: each opened once, searched and written concurrently.

What must stay true: a collection answers only embeddings of its own revision; no HTTP here.
Imported by: background, ray_serve, routes, workers and `cli`.
"""
