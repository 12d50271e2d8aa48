"""Services by their usual names. Ports and protocols: IANA's registries; ICMP types: RFC 792, RFC 4443."""

import re
from collections.abc import Iterator

from dmvpn.firewall.policy import PortRange, Service, Traffic

PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ospf": 89,
    "pim": 103,
    "vrrp": 112,
    "l2tpv3": 115,
    "sctp": 132,
    "udplite": 136,
}
# Words after a name: a protocol, `tcp/22` or `udp/5000-5010`, `icmp:8` for a type; `@4` and `@6` for one family.
_WORDS = """
any *
babel udp/6696@6
bfd udp/3784-3785 udp/4784
bgp tcp/179
bootp udp/67-68@4
dhcp udp/67-68@4 udp/546-547@6
dhcpv6 udp/546-547@6
discard tcp/9 udp/9
dns tcp/53 udp/53
dns-over-tls tcp/853
epmap tcp/135 udp/135
esp esp
finger tcp/79
ftp tcp/21
git tcp/9418
gre gre
h323 tcp/1720
http tcp/80
http-alt tcp/591 tcp/8008 tcp/8080
https tcp/443
icmp icmp icmpv6
igmp igmp
imap tcp/143
imaps tcp/993
ipp tcp/631 udp/631
ipsec esp ah udp/500 udp/4500
irc tcp/194 tcp/6667
iscsi tcp/3260
kerberos tcp/88 udp/88
kpasswd tcp/464 udp/464
l2tp udp/1701
ldap tcp/389 udp/389
ldaps tcp/636
mdns udp/5353
memcached tcp/11211 udp/11211
microsoft-ds tcp/445
mqtt tcp/1883
ms-sql-m udp/1434
ms-sql-s tcp/1433
msnp tcp/1863
mysql tcp/3306
netbios-ds udp/138
netbios-ns udp/137
netbios-ss tcp/139
nfs tcp/2049 udp/2049
nntp tcp/119
ntp udp/123
nts-ke tcp/4460
openvpn udp/1194
ospf ospf
pim pim
ping icmp:8 icmpv6:128
pop3 tcp/110
pop3s tcp/995
postgresql tcp/5432
pptp tcp/1723 gre
printing tcp/9100
radius udp/1645 udp/1812
radius-acct udp/1646 udp/1813
rdp tcp/3389 udp/3389
rip udp/520@4 udp/521@6
rpc tcp/111 udp/111
rsync tcp/873
rtsp tcp/554
sccp tcp/2000
sieve tcp/4190
sip tcp/5060 udp/5060
sips tcp/5061
smb tcp/445
smtp tcp/25
smtps tcp/465
snmp udp/161
snmp-trap udp/162
socks tcp/1080
squid tcp/3128
ssh tcp/22
stun tcp/3478 udp/3478
submission tcp/587
svn tcp/3690
syslog udp/514
syslog-tls tcp/6514
telnet tcp/23
tftp udp/69
traceroute udp/33434-33524
vnc tcp/5900-5999
vrrp vrrp
whois tcp/43
wireguard udp/51820
xmpp tcp/5222 tcp/5269
zabbix-agent tcp/10050
zabbix-trapper tcp/10051
"""


def _traffic(word: str) -> Traffic:
    if word == "*":
        return Traffic(None)
    name, _, family = word.partition("@")
    found = re.fullmatch(r"([a-z0-9]+)(?:/(\d+)(?:-(\d+))?|:(\d+))?", name)
    assert found is not None, word
    protocol, first, last, kind = PROTOCOLS[found[1]], found[2], found[3], found[4]
    ports = (PortRange(int(first), int(last or first)),) if first else ()
    own = {1: 4, 58: 6}.get(protocol)
    return Traffic(protocol, ports, (int(kind),) if kind else (), int(family) if family else own)


def _services() -> Iterator[Service]:
    for line in _WORDS.split("\n"):
        name, *words = line.split() or [""]
        if name:
            yield Service(name, tuple(map(_traffic, words)))


SERVICES: tuple[Service, ...] = tuple(_services())
