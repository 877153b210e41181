"""Clients of the server: `Client` for ordinary code, `AsyncClient` for coroutines.

Many items are sent in parts, several at once, and returned in order as one array. Retryable errors
are retried after the delay that the server names. Importing this loads no HTTP library.
"""

from twinlens.client.asynchronous import AsyncClient
from twinlens.client.plans import ServerError
from twinlens.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "ServerError"]
