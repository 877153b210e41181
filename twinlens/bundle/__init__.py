"""The contract between training and serving: an encoder on disk, verified when opened.

What must stay true: nothing here imports torch.
"""
