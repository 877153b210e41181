"""How what the demo ships is made: the names of its emoji.

What must stay true: names are taken as their source has them.
"""
