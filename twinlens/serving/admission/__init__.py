"""Whether a request is admitted, and what every request passes: ids, logs, metrics, refusals.

What must stay true: a refusal costs no task and no body, and says what the application would say.
Imported by: app, launch and workers.
"""
