"""Suites of questions about a bundle: what it can tell apart, how reliably, and where it fails.

Each suite writes questions from drawings or from the user's data; an encoder answers by cosines.
The share of right answers is reported with chance and an interval. What must stay true: no torch;
equal seeds and data give equal questions.
Imported by: `cli` and evaluation.
"""
