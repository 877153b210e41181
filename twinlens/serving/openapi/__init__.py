"""The OpenAPI document: what each path reads and answers, with examples that tests replay.

What must stay true: it describes what the parsers accept; no request passes through here.
Imported by: app.
"""
