"""The server: HTTP in front of bundles and collections. Never reaches torch."""
