"""The table of networks that are not the public internet, against what the registries say."""

from __future__ import annotations

import ipaddress

import pytest

from twinlens.serving.requests.networks import is_public

# IANA's special-purpose registries (RFC 6890 and its successors), the addresses of IPv6 that are no
# global unicast (RFC 4291), and where clouds keep their metadata.
SPECIAL = [
    "0.0.0.0/8",  # RFC 791
    "10.0.0.0/8",  # RFC 1918
    "100.64.0.0/10",  # RFC 6598
    "127.0.0.0/8",  # RFC 1122
    "169.254.0.0/16",  # RFC 3927
    "172.16.0.0/12",  # RFC 1918
    "192.0.0.0/24",  # RFC 6890
    "192.0.0.0/29",  # RFC 7335
    "192.0.0.8/32",  # RFC 7600
    "192.0.0.9/32",  # RFC 7723
    "192.0.0.10/32",  # RFC 8155
    "192.0.0.170/31",  # RFC 7050
    "192.0.2.0/24",  # RFC 5737
    "192.31.196.0/24",  # RFC 7535
    "192.52.193.0/24",  # RFC 7450
    "192.88.99.0/24",  # RFC 7526
    "192.168.0.0/16",  # RFC 1918
    "192.175.48.0/24",  # RFC 7534
    "198.18.0.0/15",  # RFC 2544
    "198.51.100.0/24",  # RFC 5737
    "203.0.113.0/24",  # RFC 5737
    "224.0.0.0/4",  # RFC 5771
    "240.0.0.0/4",  # RFC 1112
    "255.255.255.255/32",  # RFC 919
    "::/128",  # RFC 4291
    "::1/128",
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",  # RFC 2765
    "64:ff9b::/96",  # RFC 6052
    "64:ff9b:1::/48",  # RFC 8215
    "100::/64",  # RFC 6666
    "100:0:0:1::/64",  # RFC 9780
    "2001::/23",  # RFC 2928
    "2001::/32",  # RFC 4380
    "2001:1::1/128",  # RFC 7723
    "2001:1::2/128",  # RFC 8155
    "2001:1::3/128",  # RFC 9665
    "2001:2::/48",  # RFC 5180
    "2001:3::/32",  # RFC 7450
    "2001:4:112::/48",  # RFC 7535
    "2001:10::/28",  # RFC 4843
    "2001:20::/28",  # RFC 7343
    "2001:30::/28",  # RFC 9374
    "2001:db8::/32",  # RFC 3849
    "2002::/16",  # RFC 3056
    "2620:4f:8000::/48",  # RFC 7534
    "3fff::/20",  # RFC 9637
    "5f00::/16",  # RFC 9602
    "fc00::/7",  # RFC 4193
    "fe80::/10",  # RFC 4291
    "fec0::/10",  # RFC 3879
    "ff00::/8",  # RFC 4291
    "169.254.169.254/32",  # AWS, Azure, Google, DigitalOcean and others
    "169.254.170.2/32",  # AWS, containers
    "169.254.0.23/32",  # Tencent
    "100.100.100.200/32",  # Alibaba
    "192.0.0.192/32",  # Oracle
    "168.63.129.16/32",  # Azure's host
    "fd00:ec2::254/128",  # AWS
    "fd20:ce::254/128",  # Google
    "fd00:c1::a9fe:a9fe/128",  # Oracle
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.0.3.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2000::1",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "3ffe:ffff::1",
]


@pytest.mark.parametrize("text", SPECIAL)
def test_no_address_of_a_special_network_is_public(text: str) -> None:
    network = ipaddress.ip_network(text)
    assert not is_public(network.network_address)
    assert not is_public(network.network_address + network.num_addresses // 2)
    assert not is_public(network.broadcast_address)


@pytest.mark.parametrize("text", PUBLIC)
def test_the_neighbours_of_special_networks_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    ["4000::1", "6000::1", "8000::1", "a000::1", "c000::1", "e000::1", "f000::1", "1::1", "400::1"],
)
def test_unassigned_ipv6_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


def test_the_interpreter_s_own_table_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("is_global", "is_private", "is_reserved", "is_multicast"):
        for kind in (ipaddress.IPv4Address, ipaddress.IPv6Address):
            monkeypatch.setattr(kind, name, property(lambda self: 1 / 0))
    assert is_public(ipaddress.ip_address("8.8.8.8"))
    assert not is_public(ipaddress.ip_address("10.0.0.1"))
    assert not is_public(ipaddress.ip_address("fe80::1"))
