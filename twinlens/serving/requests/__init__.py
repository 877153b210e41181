"""From the bytes of a request to items, and from embeddings to the bytes of an answer.

What must stay true: limits are checked before work, errors name their field, no engine is known.
Imported by: admission, app, embedding, routes, service and workers.
"""
