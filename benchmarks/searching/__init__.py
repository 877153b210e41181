"""The parts of `python benchmarks/search.py`: each adds its rows and bars to one report."""
