"""What each kind of object may say, and what awall can say there that is not done here."""

RULE = ("in", "out", "src", "dest", "service", "ipset", "ipsec")
HELPERS = "connections that a protocol opens beside its first one are not followed"
_RAW = "awall hands its text to iptables, and the rules here are nftables'"
_RULE_REFUSED = {
    "string": ("looking for strings in packets is not done", "leave the rule to the program that reads the text"),
    "match": (f"raw matches are not read: {_RAW}", "say it with zones, addresses and services"),
}

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "zone": ("iface", "addr", "ipsec", "route-back"),
    "service": ("proto", "port", "type", "reply-type", "family"),
    "filter": (*RULE, "action", "conn-limit", "flow-limit", "dnat", "log"),
    "policy": (*(word for word in RULE if word != "service"), "action", "conn-limit", "flow-limit", "log"),
    "snat": (*RULE, "to-addr", "to-port", "family", "action"),
    "dnat": (*RULE, "to-addr", "to-port", "family", "action"),
    "mark": (*RULE, "mark"),
    "route-track": (*RULE, "mark"),
    "clamp-mss": (*(word for word in RULE if word != "service"), "mss"),
    "log": ("mode", "limit", "prefix", "level", "group", "range"),
    "limit": ("count", "interval", "src-mask", "dest-mask", "name", "addr", "log"),
    "ipset": ("type", "family", "range", "size", "timeout"),
    "ipset reference": ("name", "args"),
    "dnat target": ("addr", "port"),
    "mask": ("inet", "inet6"),
}

# What awall has and we do not: why, and what to write instead.
REFUSED: dict[str, dict[str, tuple[str, str]]] = {
    "service": {"ct-helper": (HELPERS, "remove it, and let the other ports through by a service of their own")},
    "filter": {
        **_RULE_REFUSED,
        "update-limit": ("limits that count without deciding are not done", "name the limit in the rule that decides"),
        "no-track": ("every connection is tracked here", "remove it"),
        "related": (HELPERS, "write a rule of its own for them"),
    },
    "policy": {
        **_RULE_REFUSED,
        "service": ("a policy is for all that no filter decided", "write a filter"),
        "update-limit": ("limits that count without deciding are not done", "name the limit in the rule that decides"),
        "no-track": ("every connection is tracked here", "remove it"),
        "dnat": ("a policy is for all that no filter decided", "write a filter"),
        "related": (HELPERS, "write a rule of its own for them"),
    },
    "snat": _RULE_REFUSED,
    "dnat": _RULE_REFUSED,
    "mark": _RULE_REFUSED,
    "route-track": _RULE_REFUSED,
    "clamp-mss": {**_RULE_REFUSED, "service": ("only TCP has a segment size", "remove it")},
    "log": {
        "every": ("logging each n-th packet is not done", 'write "limit", entries a second'),
        "probability": ("logging by chance is not done", 'write "limit", entries a second'),
        "mirror": ("copies of packets are not sent to other hosts", 'write "mode": "nflog" and read the group'),
        "threshold": ("packets are not held back before they are logged", "remove it"),
    },
    "limit": {
        "update": ("limits that are looked at without counting are not done", "remove it"),
    },
}

# Whole sections that awall has and we do not.
SECTIONS_REFUSED: dict[str, tuple[str, str]] = {
    "packet-log": ("logging before any filter is not done", 'write "log" on the filters that decide'),
    "classify": ("setting DSCP is not done", "leave it to the host that sends"),
    "ttl": ("setting the TTL is not done", "remove it"),
    "tproxy": ("transparent proxies are not done", "use dnat to the proxy"),
    "no-track": ("every connection is tracked here", "remove it"),
    "custom": (f"chains of raw rules are not read: {_RAW}", "say it with filters"),
}

# Words of older awall, and what they are called today.
LEGACY: dict[str, dict[str, str]] = {
    "snat": {"ip-range": "to-addr", "port-range": "to-port"},
    "dnat": {"ip-range": "to-addr", "port-range": "to-port"},
    "limit": {"mask": "src-mask"},
}
