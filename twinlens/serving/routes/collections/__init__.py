"""The paths of `/collections`: their life, their items, and reports on what they hold.

Imported by: ray_serve, workers and `cli`.
"""
