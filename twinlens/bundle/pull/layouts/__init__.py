"""Where the parts of a model lie in a repository: a file for each layout, one table of them.

What must stay true: a layout looks at the names of files and at configurations, never at weights.
Imported by: pull.
"""
