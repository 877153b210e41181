"""Approximate nearest neighbours: index kinds, their parameters, tuning, measured recall.

What must stay true: every index can be rebuilt from the segments; recall is measured, not assumed.
Imported by: ingest, maintenance, searching, snapshot, stats, stores, upkeep, `cli` and `serving`.
"""
