"""The one training loop: the session and its parts, gradients, optimizers, monitors, stopping.

What must stay true: the loop knows no method; a stop between any two steps loses nothing.
Imported by: studies and `cli`.
"""
