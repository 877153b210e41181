"""How the builtin encoder learned photographs: a published image tower, and words for its classes.

The image tower is an EfficientNet-Lite0 trained on ImageNet by others, unchanged. A text tower is
trained here for its space: every string is a mixture of ImageNet's thousand classes, and a picture
is the mixture that the classifier predicts.
"""
