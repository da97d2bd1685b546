"""Where webhooks may lead: the addresses that a host stands for, looked up once and held against settings.

Whoever sends connects to an address from here, so that a name that stands for another one a moment later
leads nowhere else.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import httpx

from app.errors import AppError, Invalid

ANY_PUBLIC = "*"
"""The entry of the setting that stands for every host with a public address."""
LOOK_UP_SECONDS = 5.0
NAT64 = IPv6Network("64:ff9b::/96")
CARRIES_IPV4 = (IPv6Network("2002::/16"), IPv6Network("2001::/32"), IPv6Network("64:ff9b:1::/48"))
"""6to4, Teredo and local NAT64: they lead to IPv4 addresses that cannot be told from here."""

Address = IPv4Address | IPv6Address


class ForbiddenPlace(Invalid):
    """The settings let no webhook lead there."""

    code = "webhook_forbidden"
    title = "Webhooks may not lead there"


class UnknownHost(AppError):
    """Nobody knows the host's address, now."""

    status = 422
    code = "unknown_host"
    title = "Unknown host"


def addresses_of(url: str, hosts: Sequence[str], seconds: float = LOOK_UP_SECONDS) -> list[str]:
    """The addresses that `url` may be sent to, in the order of the look-up, which ends after `seconds`.

    `hosts` are those of the setting WEBHOOK_HOSTS. Raises ForbiddenPlace where any address of the host is
    none that they let through, and UnknownHost.
    """
    parsed = httpx.URL(url)
    host = parsed.raw_host.decode("ascii").rstrip(".").lower()
    is_named = any(_names(entry.lower(), host) for entry in hosts)
    if not is_named and ANY_PUBLIC not in hosts and not any(_network(entry) for entry in hosts):
        raise ForbiddenPlace(_not_listed(host))
    found = _look_up(host, parsed.port or {"http": 80, "https": 443}[parsed.scheme], seconds)
    for address in [] if is_named else map(ipaddress.ip_address, found):
        if any(address in network for entry in hosts if (network := _network(entry))):
            continue
        if ANY_PUBLIC not in hosts:
            raise ForbiddenPlace(_not_listed(host))
        if not is_public(address):
            stands_for = "is" if host == str(address) else f"stands for {address},"
            raise ForbiddenPlace(
                f"{host} {stands_for} an address of this machine, of a private network or of no host at all; "
                "webhooks lead to public addresses. To allow it, start server and workers with "
                f'REWARDSCOPE_WEBHOOK_HOSTS=\'["{ANY_PUBLIC}", "{host}"]\'.'
            )
    return found


def is_public(address: Address) -> bool:
    """Whether an address belongs to a host of the Internet: neither loopback, link-local, private, multicast
    nor reserved, also where an IPv6 address stands for an IPv4 one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.is_site_local or any(address in network for network in CARRIES_IPV4):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _names(entry: str, host: str) -> bool:
    """Whether an entry names the host: itself, or by `*.` and the end of its name."""
    return entry == host or (entry.startswith("*.") and host.endswith(entry[1:]))


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def _not_listed(host: str) -> str:
    return f"{host} is none of the hosts that webhooks may lead to; see REWARDSCOPE_WEBHOOK_HOSTS."


def _look_up(host: str, port: int, seconds: float) -> list[str]:
    """The host's addresses. In a thread that nobody waits for, because a look-up cannot be ended."""
    answers: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(address[0]) for *_, address in found)))
        except (OSError, ValueError):
            answers.put([])

    threading.Thread(target=ask, name="look up webhook", daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        raise UnknownHost(f"No name server told the address of {host} within {seconds:g} seconds.") from None
    if not found:
        raise UnknownHost(f"No host of the name {host} is known.")
    return found
