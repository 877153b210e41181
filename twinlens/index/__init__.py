"""Collections on disk, their search and the offline indexer. Never reaches torch."""
