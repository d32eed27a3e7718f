"""Hosts: which are this machine's or a private network's own, and which are meant by ``HOST`` or ``HOST:PORT``."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

__all__ = ["host_matches", "is_loopback", "is_private"]


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its very name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@functools.lru_cache(maxsize=1024)
def is_private(host: str) -> bool:
    """Tell whether a host is this machine or one of a private network: a local model, a gateway."""
    name = bare(host).lower()
    if name in ("", "localhost") or name.endswith((".localhost", ".local", ".internal", ".lan")):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return "." not in name
    return address.is_private or address.is_loopback or address.is_link_local


def bare(host: str) -> str:
    """Return a host without its port and without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


def host_matches(host: str, given: Iterable[str]) -> bool:
    """Tell whether a host is among those given; a name without a port stands for all of its ports."""
    name = bare(host)
    return any(
        item == host or ((item == bare(item) or item == f"[{bare(item)}]") and bare(item) == name) for item in given
    )
