"""The paths and shapes of other servers, a file for each, so that their clients work unchanged.

What must stay true: a dialect is served by adding its file here, and nothing elsewhere names it.
"""
