"""The questions of each suite: one module per suite, with their rules and pictures.

What must stay true: questions depend only on the data and the seed, not on an encoder.
Imported by: suites.
"""
