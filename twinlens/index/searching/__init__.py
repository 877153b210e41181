"""Searches with more than a nearest row: words, diversity, one hit an item, explanations.

What must stay true: each hit satisfies the filter, and an explanation tells what was done.
Imported by: `cli` and `serving`.
"""
