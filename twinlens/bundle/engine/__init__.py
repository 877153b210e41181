"""The engines that run graphs, and how one is chosen for a tower: by measurement, remembered.

What must stay true: nothing outside can tell the engines apart but by their name and speed.
Imported by: session, tower, trial and `cli`.
"""
