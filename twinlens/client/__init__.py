"""Clients of the server: `Client` for ordinary code, `AsyncClient` for coroutines.

Many items are sent in parts, several at once, and come back in order as one array. What the server
says may be retried is retried, after the time that it names. Importing this loads no HTTP library.
"""

from twinlens.client.asynchronous import AsyncClient
from twinlens.client.plans import ServerError
from twinlens.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "ServerError"]
