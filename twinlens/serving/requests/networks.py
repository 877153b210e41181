"""Which addresses belong to the public internet: a table of its own, the same on every Python.

The interpreter's `is_global` changes between versions and ignores cloud services. The table is
taken from IANA's registries of special-purpose addresses (RFC 6890, RFC 8190 and later) and of IPv6
address space. Networks that IANA calls globally reachable, but that hold no web server (AS112,
anycast relays), are in it too. What must stay true: an address is public only if nothing here names
it.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Networks that are no part of the public internet, with what they are for.
SPECIAL_V4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private use",
    "100.64.0.0/10": "shared by carriers; Alibaba's metadata",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local; most clouds' metadata",
    "172.16.0.0/12": "private use",
    "192.0.0.0/24": "protocol assignments; Oracle's metadata",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "multicast tunnels",
    "192.88.99.0/24": "6to4 relays, deprecated",
    "192.168.0.0/16": "private use",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved; broadcast",
}
SPECIAL_V6 = {
    "::/96": "unspecified, loopback, IPv4-compatible",
    "::ffff:0:0/96": "IPv4-mapped",
    "64:ff9b::/96": "NAT64",
    "64:ff9b:1::/48": "NAT64 of one's own",
    "100::/64": "discarded",
    "100:0:0:1::/64": "dummy prefix",
    "2001::/23": "protocol assignments; Teredo, benchmarking, ORCHID",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "documentation",
    "5f00::/16": "segment routing",
    "fc00::/7": "unique local; metadata of AWS and Google",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local, deprecated",
    "ff00::/8": "multicast",
}
# Services of cloud hosts at addresses that look public.
CLOUD = {"168.63.129.16/32": "Azure's host"}

_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # all that IANA has given to global unicast
_NETWORKS_V4 = [ipaddress.IPv4Network(text) for text in (*SPECIAL_V4, *CLOUD)]
_NETWORKS_V6 = [ipaddress.IPv6Network(text) for text in SPECIAL_V6]


def is_public(address: Address) -> bool:
    """Return whether an address is one of the public internet, by this table alone."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NETWORKS_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _NETWORKS_V6)
