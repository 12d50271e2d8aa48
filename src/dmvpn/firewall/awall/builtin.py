"""The services that awall brings along: IANA's names and ports; and protocol numbers."""

from dmvpn.firewall.policy import PortRange, Service, Traffic

# /etc/protocols, as far as somebody filters by it.
PROTOCOLS: dict[str, int] = {
    "ip": 0,
    "icmp": 1,
    "igmp": 2,
    "ipencap": 4,
    "ipip": 4,
    "tcp": 6,
    "egp": 8,
    "igp": 9,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ipsec-esp": 50,
    "ah": 51,
    "ipsec-ah": 51,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "eigrp": 88,
    "ospf": 89,
    "ospfigp": 89,
    "etherip": 97,
    "encap": 98,
    "pim": 103,
    "ipcomp": 108,
    "vrrp": 112,
    "carp": 112,
    "l2tp": 115,
    "isis": 124,
    "sctp": 132,
    "udplite": 136,
}
TCP, UDP = 6, 17

_TCP: dict[str, int] = {
    "babel": 6697,
    "bacula-dir": 9101,
    "bacula-fd": 9102,
    "bacula-sd": 9103,
    "bgp": 179,
    "hp-pdl": 9100,
    "http": 80,
    "http-alt": 8080,
    "https": 443,
    "imap": 143,
    "imaps": 993,
    "ms-sql-s": 1433,
    "ms-sql-m": 1434,
    "pgsql": 5432,
    "pop3": 110,
    "pop3s": 995,
    "rdp": 3389,
    "rsync": 873,
    "rtmp": 1935,
    "rtsp": 554,
    "sieve": 4190,
    "smtp": 25,
    "ssh": 22,
    "submission": 587,
    "telnet": 23,
    "vnc": 5900,
}
_UDP: dict[str, int] = {
    "l2tp": 1701,
    "ntp": 123,
    "openvpn": 1194,
    "snmp": 161,
    "snmp-trap": 162,
    "syslog": 514,
    "teredo": 3544,
    "tftp": 69,
}
_BOTH: dict[str, int] = {
    "discard": 9,
    "dns": 53,
    "epmap": 135,
    "kerberos": 88,
    "kpasswd": 464,
    "ldap": 389,
    "ldaps": 636,
    "microsoft-ds": 445,
    "msft-gc": 3268,
    "msft-gc-ssl": 3269,
    "netbios-ds": 138,
    "netbios-ssn": 139,
    "radius": 1812,
    "radius-acct": 1813,
    "sip-tls": 5061,
}
_BARE: dict[str, int] = {"gre": 47, "igmp": 2, "ospf": 89}


def _port(protocol: int, first: int, *, last: int | None = None, family: int | None = None) -> Traffic:
    return Traffic(protocol, (PortRange(first, last or first),), family=family)


_OTHER: dict[str, tuple[Traffic, ...]] = {
    "dhcp": (_port(UDP, 67, last=68, family=4),),
    "dhcpv6": (_port(UDP, 546, last=547, family=6),),
    "ftp": (_port(TCP, 21),),
    "icmp": (Traffic(1, family=4),),
    "ipsec": (Traffic(50), _port(UDP, 500), _port(UDP, 4500)),
    "irc": (_port(TCP, 6667),),
    "netbios-ns": (_port(TCP, 137, family=4), _port(UDP, 137, family=4)),
    "ping": (Traffic(1, types=(8,), family=4), Traffic(58, types=(128,), family=6)),
    "sip": (_port(UDP, 5060), _port(TCP, 5060)),
}

SERVICES: dict[str, Service] = {
    name: Service(name, traffic)
    for name, traffic in sorted(
        {
            **{name: (_port(TCP, port),) for name, port in _TCP.items()},
            **{name: (_port(UDP, port),) for name, port in _UDP.items()},
            **{name: (_port(UDP, port), _port(TCP, port)) for name, port in _BOTH.items()},
            **{name: (Traffic(protocol),) for name, protocol in _BARE.items()},
            **_OTHER,
        }.items()
    )
}

# For which awall has the kernel look into packets for the connections that belong to them.
WITH_HELPERS = ("ftp", "irc", "netbios-ns", "sip")
