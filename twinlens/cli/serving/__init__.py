"""Commands that start a server: serve and demo.

What must stay true: a command imports its room inside the function, so that help is quick.
Imported by: main.
"""
