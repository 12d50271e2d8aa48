"""The smallest network that carries anything: a hub, a spoke, and a LAN behind each."""

NETWORK = """\
version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/8]
clouds: {blue: {overlay: [10.255.1.0/24], plane: userspace}}
sites:
  hq:
    asn: 65000
    networks: {lan: {port: eth1, prefix: 10.1.0.0/24}}
    routers:
      hq1:
        uplinks: {wan: {port: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}
        tunnels: {blue: {role: hub, address: [10.255.1.1]}}
  paris:
    asn: 65001
    networks: {lan: {port: eth1, prefix: 10.1.1.0/24}}
    routers:
      par1:
        uplinks: {isp1: {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}}
        tunnels: {blue: {address: [10.255.1.11]}}
"""
