"""The contract between training and serving: an encoder on disk, verified when opened.

Never reaches torch.
"""
