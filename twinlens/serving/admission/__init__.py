"""Whether a request is admitted, and what is done around each: ids, logs, metrics, early refusals.

What must stay true: a refusal costs no task and no body, and says what the application would say.
Imported by: app and launch.
"""
