"""Work on a whole collection: list and delete items, back it up, find copies, clusters, outliers.

What must stay true: nothing is deleted beyond the limit that was given.
Imported by: `cli`.
"""
