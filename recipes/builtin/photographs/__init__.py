"""How the builtin encoder learned photographs: a published image tower, and words for what it sees.

The image tower is an EfficientNet-Lite0 that others trained on ImageNet; it stays as it is. What is
learned here is a text tower that says the same in words: every string is a mixture of ImageNet's
thousand classes, and a picture is the mixture that the classifier sees in it.
"""
