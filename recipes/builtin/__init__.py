"""How the encoder that ships with Twinlens is made: its towers, texts, views, loss and evaluation.

Only data under licences that permit redistribution goes in, since the weights ship. Everything here
is for this one encoder; `python -m recipes.builtin` remakes it.
"""
