"""The comparisons of `equality.py`: our losses with lightly's, open_clip's and the authors'."""
