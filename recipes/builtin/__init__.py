"""How the encoder that ships with Twinlens is made: its towers, texts, views, loss and evaluation.

Everything here is for this one encoder; `python -m recipes.builtin` trains it again. What must stay
true: only data under licences that permit redistribution are used, since the weights ship.
"""
