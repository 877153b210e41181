"""The questions of each suite: one module for each, with the rules and pictures they are made of.

What must stay true: questions depend on the data and the seed alone, and know no encoder.
Imported by: suites.
"""
