"""Work that continues after its request: building classifiers, maintaining collections.

What must stay true: it runs on idle capacity, shows its progress, and resumes after a restart.
Imported by: routes.
"""
