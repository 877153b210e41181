"""The paths of the server, one router a file. A route reads, calls the service, answers bytes.

Imported by: app, openapi and `cli`.
"""
