"""From a ready ONNX model, on a hub or in a folder, to a bundle; without torch.

What must stay true: a pulled bundle is compared with the original files, and behaves like any other
bundle.
Imported by: location, `cli`, `serving` and `training`.
"""
