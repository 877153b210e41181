"""A run on disk and in memory: its folder, settings, networks, state, checkpoints, log.

What must stay true: a checkpoint restores a run bit for bit; nothing is unpickled.
Imported by: evaluation, export, doctor, report, loop, studies and `cli`.
"""
