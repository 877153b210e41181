"""Micro-batching inference: decode images, queue items, run towers in watched worker threads.

What must stay true: nothing here knows HTTP, and one bad item costs no other item anything.
Imported by: routes, background, zeroshot, admission, service and launch; never requests or observe.
"""
