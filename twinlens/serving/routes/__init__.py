"""The HTTP routes, one router per file: read the request, call the service, answer bytes.

Imported by: app, ray_serve, workers and `cli`.
"""
