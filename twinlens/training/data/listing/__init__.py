"""Listings of large data: records as columns, kept on disk, of local files or an object store.

What must stay true: a kept listing is read only while its files are unchanged.
Imported by: data.
"""
