"""Where the parts of a model are in a repository: one module per layout, and a table of them.

What must stay true: a layout depends on file names and configurations, never on weights.
Imported by: pull.
"""
