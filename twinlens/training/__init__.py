"""Training and export, with torch: from a folder of images to an encoder, evaluated and bundled.

What must stay true: it meets serving in the bundle on disk only, and its sub-rooms import downwards
(pyproject.toml lists them). Imported by: `cli`.
"""
