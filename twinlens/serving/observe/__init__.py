"""Observability: Prometheus metrics, structured logs, OpenTelemetry traces.

What must stay true: observing a request never fails it; no label has unbounded values.
Imported by: collections, launch, service, workers and `cli`.
"""
