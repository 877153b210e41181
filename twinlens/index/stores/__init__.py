"""Collections kept by a vector store, PostgreSQL or Milvus: the same searches, the same filters.

What must stay true: a store holds embeddings of one revision, and answers what a local collection
of the same items answers. Imported by: searching, upkeep, `cli` and `serving`.
"""
