"""The server: HTTP around bundles. It never reaches torch, and training never reaches it."""
