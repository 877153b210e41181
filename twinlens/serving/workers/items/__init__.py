"""Items on their way from the process that answers a request to the one that has a device.

What must stay true: pixels are written once, into memory that both see, and every item is answered.
Imported by: workers.
"""
