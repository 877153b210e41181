"""A picture corpus drawn on the user's own machine, so that a first search needs no data.

With a colour emoji font in the system, every emoji of it; else shapes, letters, animals and things
that this code draws. No picture ships with Twinlens.
"""

from twinlens.demo.corpus import DemoCorpus, draw_corpus, find_cache
from twinlens.demo.emoji import find_font

__all__ = ["DemoCorpus", "draw_corpus", "find_cache", "find_font"]
