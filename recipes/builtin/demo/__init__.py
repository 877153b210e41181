"""How the demo's data are made: the names of its emoji.

What must stay true: names are unchanged from their source.
"""
