"""Collections as a server holds them: opened once, searched and written beside each other.

What must stay true: a collection answers only embeddings of its own revision; no HTTP here.
Imported by: background, routes and `cli`.
"""
