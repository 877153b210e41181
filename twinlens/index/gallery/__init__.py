"""What people look at: thumbnails, contact sheets, the 2-D projection of a collection.

What must stay true: everything here is derived and may be deleted.
Imported by: `serving` and `cli`.
"""
