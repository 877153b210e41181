"""The tables of a collection in PostgreSQL, and the statement that writes an item.

The row of the state is locked by every write; it holds the count of items, so that none is counted.
"""

from __future__ import annotations

TABLES = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS {name}_state (
    one boolean PRIMARY KEY DEFAULT TRUE CHECK (one), head json NOT NULL, notes json NOT NULL,
    count bigint NOT NULL, epoch bigint NOT NULL, next_rid bigint NOT NULL,
    changed bigint NOT NULL);
CREATE TABLE IF NOT EXISTS {name}_fields (field text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS {name} (
    id text PRIMARY KEY, rid bigint UNIQUE NOT NULL, version text NOT NULL, metadata json NOT NULL,
    terms text[] NOT NULL, bounds jsonb NOT NULL, embedding vector({dim}) NOT NULL);
ALTER TABLE {name} ALTER COLUMN embedding SET STORAGE PLAIN;
CREATE INDEX IF NOT EXISTS {name}_terms ON {name} USING gin (terms);
"""
UPSERT = """
INSERT INTO {name} (id, rid, version, metadata, terms, bounds, embedding)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET rid = EXCLUDED.rid, version = EXCLUDED.version,
    metadata = EXCLUDED.metadata, terms = EXCLUDED.terms, bounds = EXCLUDED.bounds,
    embedding = EXCLUDED.embedding
"""
