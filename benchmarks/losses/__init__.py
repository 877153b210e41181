"""What `equality.py` compares: our losses with lightly's, open_clip's and their authors' own."""
