"""What an operator sees: Prometheus metrics, structured logs, OpenTelemetry traces.

What must stay true: observing a request never fails it, and adds no label of unbounded values.
Imported by: collections, launch, service and `cli`.
"""
