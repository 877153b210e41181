"""Failures and overload, rehearsed on a real server; `python benchmarks/drill.py` runs all."""
