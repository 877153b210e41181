"""An image corpus made on the user's machine, so that a first search needs no data.

It contains every emoji of the system's colour emoji font, if there is one; otherwise shapes,
letters, animals and things drawn by code; and the photographs that ship with the package.
"""

from twinlens.demo.corpus import DemoCorpus, draw_corpus
from twinlens.demo.emoji import find_font

__all__ = ["DemoCorpus", "draw_corpus", "find_font"]
