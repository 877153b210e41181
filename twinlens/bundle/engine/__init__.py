"""The engines that run graphs, and the choice of one for a tower: by a remembered measurement.

What must stay true: engines differ only in name and speed to their callers.
Imported by: session, tower, trial and `cli`.
"""
