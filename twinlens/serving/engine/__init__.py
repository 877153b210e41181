"""Micro-batching inference: decode images, queue items, run towers in supervised worker threads.

What must stay true: nothing here knows HTTP, and one bad item does not affect any other.
Imported by: admission, background, embedding, launch, routes, service, workers and zeroshot.
"""
