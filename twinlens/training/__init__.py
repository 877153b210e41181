"""Training and export, with torch: from a folder of images to an evaluated encoder in a bundle.

What must stay true: training and serving share only the bundle on disk, and sub-rooms import
downwards (pyproject.toml lists the layers).
Imported by: `cli`.
"""
