"""From a ready ONNX model, on a hub or in a folder, to a bundle; without torch.

What must stay true: a pulled bundle is judged against the original files, and nobody behind the
bundle can tell that it was pulled.
Imported by: location, `cli`, `serving` and `training`.
"""
