"""Commands that need torch: train, doctor, eval, study.

What must stay true: a command imports its room inside the function, so that help is quick.
Imported by: main.
"""
