"""Building blocks that objectives share: heads, batch norm, Sinkhorn assignment, reconstruction.

What must stay true: modules know no data, no ranks and no loop.
Imported by: objective, objectives, recipes, distributed, runs, doctor and loop.
"""
