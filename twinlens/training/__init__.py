"""Training and export: the only room that needs torch.

It meets serving in the bundle on disk, nowhere else.
"""
