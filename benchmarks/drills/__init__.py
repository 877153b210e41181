"""Bad days of the server, rehearsed on a real one; `python benchmarks/drill.py` runs all."""
