"""Listings of large data: records as columns, kept on disk, of files here or in an object store.

What must stay true: a kept listing is read only while what it lists is as it was.
Imported by: data.
"""
