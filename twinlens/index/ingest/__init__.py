"""Building a collection from a corpus: readers, the resumable indexer, import, export.

What must stay true: each batch is committed by content id, so a stopped build resumes.
Imported by: gallery, upkeep, `cli`, `serving` and `training`.
"""
