"""Work on a whole collection: list and change items, back up, embed anew, find copies, outliers.

What must stay true: nothing is deleted beyond the limit that was given.
Imported by: `cli` and `serving`.
"""
