"""Views: augmented images, made for a whole batch at once on the training device.

A view is linear algebra: crop, resize, flip and blur are two small matrices per image, jitter and
grey one 3x3 matrix and an offset. What must stay true: the distribution of views matches that of
the usual per-image transforms, and a view depends on its generator alone.
Imported by: objective, objectives, recipes, data, runs, evaluation, report and loop.
"""
