"""Many processes behind one socket: a keeper, HTTP processes, an encoder for each device, a head.

What must stay true: what one process promises holds for all of them together; and a process that
dies takes with it only what it alone held.
Imported by: `cli`.
"""
