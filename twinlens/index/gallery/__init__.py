"""Visual views of a collection: thumbnails, contact sheets, the 2-D projection.

What must stay true: everything here is derived and may be deleted.
Imported by: `serving` and `cli`.
"""
