"""Declarations of routes, and the OpenAPI document that is built from them.

What must stay true: nothing here names a path; a route's shapes stand in the file of the route.
Imported by: app, requests and routes.
"""
