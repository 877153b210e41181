"""Commands about collections: the `index` group and search.

What must stay true: a command imports its room inside the function, so that help is quick.
Imported by: main and serving.
"""
