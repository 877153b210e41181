"""Micro-batching inference: decode images, queue items, run towers in watched worker threads.

What must stay true: nothing here knows HTTP, and one bad item costs no other item anything.
Imported by: admission, background, embedding, launch, routes, service and zeroshot.
"""
