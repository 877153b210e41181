"""Several short runs that answer one question: the learning-rate finder, comparisons of settings.

What must stay true: each run is an ordinary run of the loop.
Imported by: `cli`.
"""
