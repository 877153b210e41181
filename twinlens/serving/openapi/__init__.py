"""What route files declare themselves with, and the OpenAPI document made of their declarations.

What must stay true: nothing here names a path; a route's shapes stand in the file of the route.
Imported by: app, requests and routes.
"""
