"""Commands about one bundle: pull, export, check, models, card, info, embed, classify, kernels.

What must stay true: only export and kernels need torch or triton, and they say so if it is missing.
Imported by: main.
"""
