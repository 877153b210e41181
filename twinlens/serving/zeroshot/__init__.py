"""Zero-shot classification: templates, class banks, stored classifiers, scores and labels.

What must stay true: every score comes from the encoder's similarity node.
Imported by: background, routes, service, workers and `cli`.
"""
