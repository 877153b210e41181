"""Rewrites of the photographs' image graph: drawings skip a branch, which holds its own weights.

What must stay true: no rewrite changes what the graph computes, but for the order of additions.
"""
