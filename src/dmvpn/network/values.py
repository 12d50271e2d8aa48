"""What one value of the file may be: the character set of every string, and numbers with a unit.

Rendered files are lines of words, so every string here is of a closed set of characters: no value can add a line, a
quote or a comment to a file. Each type carries its JSON Schema for editors, and its refusal says what to write instead.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import (
    IPv4Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from dmvpn.network import plan

REFUSAL = "refusal"  # the type of our own pydantic errors: context has what and fix


def refusal(what: str, fix: str) -> PydanticCustomError:
    """The error a value's type raises; loading turns it into a Problem."""
    return PydanticCustomError(REFUSAL, "{what}; {fix}", {"what": what, "fix": fix})


class Section(BaseModel):
    """A mapping of the file: keys are written with hyphens, and a key nobody knows is a problem."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.rstrip("_").replace("_", "-"),
        validate_by_alias=True,
        validate_by_name=False,
        use_attribute_docstrings=True,
    )


@dataclass(frozen=True, slots=True)
class Spelling:
    """A string of a stated character set. `what` reads after "is not"."""

    what: str
    pattern: str
    longest: int
    example: str

    def check(self, value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)  # YAML reads a bare 22 as a number
        if not isinstance(value, str):
            raise refusal(f"{shown(value)} is not {self.what}", f"write text, such as {self.example}")
        if len(value) > self.longest:
            raise refusal(f"{len(value)} characters are too many for {self.what}", f"use at most {self.longest}")
        if re.fullmatch(self.pattern, value, re.ASCII) is None:
            near = re.sub(r"[ _]+", "-", value).lower()
            # Only where case and underscores mean nothing: America/New_York is no america/new-york.
            fits = "A-Z" not in self.pattern and re.fullmatch(self.pattern, near, re.ASCII) is not None
            raise refusal(
                f"{shown(value)} is not {self.what}", f"write {near if fits else f'something like {self.example}'}"
            )
        return value

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "type": "string",
            "pattern": f"^({self.pattern})$",
            "maxLength": self.longest,
            "description": self.what,
            "examples": [self.example],
        }


@dataclass(frozen=True, slots=True)
class Parsed:
    """A string that `parse` turns into something else (an address, a prefix)."""

    what: str
    parse: Callable[[str], object]
    example: str

    def check(self, value: object) -> object:
        if not isinstance(value, str) or "%" in value:
            raise refusal(f"{shown(value)} is not {self.what}", f"write something like {self.example}")
        try:
            return self.parse(value)
        except PydanticCustomError:  # a ValueError too, but one that already says what to write
            raise
        except ValueError:
            raise refusal(f"{shown(value)} is not {self.what}", f"write something like {self.example}") from None

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "description": self.what, "examples": [self.example]}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit as a suffix, or bare in the first unit of `units` whose factor is 1.

    `whole` values come out as int. `low` and `high` bound the value after the unit is applied.
    """

    what: str
    units: tuple[tuple[str, float], ...]
    low: float
    high: float
    whole: bool
    example: str

    def check(self, value: object) -> float:
        number = self._number(value)
        if not self.low <= number <= self.high:
            raise refusal(
                f"{shown(value)} is out of range for {self.what}",
                f"use {self._bound(self.low)} to {self._bound(self.high)}",
            )
        if self.whole and number != int(number):
            raise refusal(f"{shown(value)} is not a whole number", f"write something like {self.example}")
        return int(number) if self.whole else number

    def _number(self, value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value) if not isinstance(value, int) else value
        found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z%]*)", value) if isinstance(value, str) else None
        factors = dict(self.units)
        if found is None or (found[2] not in factors and found[2]):
            suffixes = ", ".join(suffix for suffix, _ in self.units if suffix)
            suffixes = f"a number with {suffixes}" if suffixes else "a number"
            raise refusal(f"{shown(value)} is not {self.what}", f"write {suffixes}, such as {self.example}")
        return round(float(found[1]) * factors.get(found[2], 1), 9)

    def _bound(self, value: float) -> str:
        if "%" in dict(self.units):
            return f"{value:.0%}"
        return str(int(value)) if value == int(value) else str(value)

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        suffixes = "|".join(suffix for suffix, _ in self.units if suffix)
        bare: JsonSchemaValue = {"type": "integer" if self.whole else "number"}
        text = {"type": "string", "pattern": rf"^\d{{1,12}}(\.\d{{1,6}})? ?({suffixes})?$"}
        if not suffixes:
            return {**bare, "minimum": self.low, "maximum": self.high, "description": self.what}
        return {"anyOf": [bare, text], "description": self.what, "examples": [self.example]}


@dataclass(frozen=True, slots=True)
class OneOrMany:
    """A list, of which a single value may stand for a list of one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(core)
        return {"anyOf": [many["items"], many]} if "items" in many else many


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple | dict) else (value,)


@dataclass(frozen=True, slots=True)
class TrueForDefaults:
    """A section for which `true` may stand when nothing in it differs, and `false` for its absence."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_switched, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "boolean"}, handler(core)]}


# Texts since YAML 1.2, or in quotes.
_SWITCHES = {**dict.fromkeys(("yes", "on", "y", "true"), "true"), **dict.fromkeys(("no", "off", "n", "false"), "false")}


def _switched(value: object) -> object:
    if isinstance(value, str) and (meant := _SWITCHES.get(value.lower())):
        raise refusal(f"{value} is a text", f"write {meant}, without quotes")
    return {} if value is True else None if value is False else value


def shown(value: object) -> str:
    """A value of the file as a message quotes it: short, on one line."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = "true" if value is True else "false" if value is False else str(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return text if re.fullmatch(r"[!-~]+", text) else repr(text)


_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_ADDRESS = r"[0-9a-f:.]{2,45}"
_TIME = (("s", 1.0), ("ms", 0.001), ("m", 60.0), ("h", 3600.0), ("d", 86400.0))
_RATE = (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9))
_NONE = (("", 1.0),)

Name = Annotated[
    str,
    Spelling(
        "a name (lower-case letters, digits and hyphens, a letter first)", r"[a-z](?:[a-z0-9-]*[a-z0-9])?", 32, "paris"
    ),
]
Domain = Annotated[str, Spelling("a domain name in lower case", _DOMAIN, 253, "example.net")]
Host = Annotated[
    str, Spelling("an address or a domain name in lower case", f"{_DOMAIN}|{_ADDRESS}", 253, "hub.example.net")
]
Port = Annotated[str, Spelling("a Linux device name", r"[A-Za-z][A-Za-z0-9_-]*", 15, "eth0")]
VendorInterface = Annotated[str, Spelling("an interface name", r"[A-Za-z][A-Za-z0-9./_-]*", 31, "GigabitEthernet0/0")]
Path = Annotated[
    str,
    Spelling(
        "a file name below this file's directory (letters, digits, . _ - and /, no ..)",
        r"(?!/)(?!(?:.*/)?\.\.(?:/|$))[A-Za-z0-9_./-]+",
        200,
        "secrets/nhrp",
    ),
]
Proposal = Annotated[
    str,
    Spelling("a proposal in strongSwan's words", r"[a-z0-9_]+(?:-[a-z0-9_]+)*", 120, "aes256gcm16-prfsha384-ecp384"),
]
Account = Annotated[str, Spelling("a user name", r"[A-Za-z0-9._@+-]+", 64, "u@isp")]
ServiceName = Annotated[
    str,
    Spelling(
        "a service of the machine, without .service, and none of ours",
        r"(?!dmvpn-)[A-Za-z0-9][A-Za-z0-9_.@-]*(?<!\.service)",
        128,
        "strongswan-starter",
    ),
]
Timezone = Annotated[str, Spelling("a time zone", r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*", 64, "Europe/Helsinki")]
Url = Annotated[
    str,
    Spelling(
        "an HTTP URL of a host and a port",
        rf"https?://{_DOMAIN}:\d{{1,5}}/?",
        300,
        "'http://proxy.example.net:3128'",
    ),
]
SshKey = Annotated[
    str,
    Spelling(
        "an SSH public key",
        r"(?:sk-)?(?:ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa)(?:@openssh\.com)? [A-Za-z0-9+/]+={0,3}"
        r"(?: [A-Za-z0-9._@-]+)?",
        2000,
        "'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA anna@example.net'",
    ),
]
RecordData = Annotated[
    str,
    Spelling(
        "a DNS record's data (no quotes, backslashes or semicolons)", r"[A-Za-z0-9 ._:=+/,@~-]+", 255, "'10 mail'"
    ),
]
RecordName = Annotated[
    str, Spelling("a DNS record's name", r"@|(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?", 253, "mail")
]
LinkName = Annotated[
    str,
    Spelling(
        "ROUTER.UPLINK or SITE.NETWORK", r"[a-z](?:[a-z0-9-]*[a-z0-9])?\.[a-z](?:[a-z0-9-]*[a-z0-9])?", 65, "hel1.isp1"
    ),
]
Zone = Annotated[
    str, Spelling("a zone (a name, or _fw for the router itself)", r"_fw|[a-z](?:[a-z0-9-]*[a-z0-9])?", 32, "lan")
]
ServicePorts = Annotated[str, Spelling("a port or a range of ports", r"\d{1,5}(?:-\d{1,5})?", 11, "'8000-8010'")]
LogPrefix = Annotated[str, Spelling("a prefix of log entries", r"[A-Za-z0-9 ._:/+-]*", 60, "'from outside: '")]
AddressRange = Annotated[str, Spelling("a range of addresses", rf"{_ADDRESS}-{_ADDRESS}", 91, "10.1.8.100-10.1.8.199")]
MacAddress = Annotated[str, Spelling("a MAC address", r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}", 17, "'52:54:00:12:34:56'")]

Address = Annotated[plan.Address, Parsed("an address", ip_address, "192.0.2.1")]
Prefix = Annotated[plan.Network, Parsed("a prefix", lambda text: _prefix(text), "10.0.0.0/8")]
Prefix4 = Annotated[IPv4Network, Parsed("an IPv4 prefix", lambda text: _prefix4(text), "100.64.0.0/16")]
Interface = Annotated[
    plan.Interface, Parsed("an address with its prefix length", lambda text: _with_length(text), "192.0.2.2/30")
]


def _prefix(text: str) -> plan.Network:
    _with_length(text)
    network = ip_network(text, strict=False)
    if network.network_address != ip_interface(text).ip:
        raise refusal(f"{text} has bits set after the prefix", f"write {network}")
    return network


def _prefix4(text: str) -> IPv4Network:
    network = _prefix(text)
    if not isinstance(network, IPv4Network):
        raise ValueError(text)
    return network


def _with_length(text: str) -> plan.Interface:
    if "/" not in text:
        raise ValueError(text)
    return ip_interface(text)


Addresses = Annotated[tuple[Address, ...], OneOrMany(), Field(max_length=16)]
Prefixes = Annotated[tuple[Prefix, ...], OneOrMany(), Field(max_length=64)]
Interfaces = Annotated[tuple[Interface, ...], OneOrMany(), Field(max_length=16)]
Names = Annotated[tuple[Name, ...], OneOrMany(), Field(max_length=64)]
Zones = Annotated[tuple[Zone, ...], OneOrMany(), Field(max_length=64)]
ServiceNames = Annotated[tuple[ServiceName, ...], OneOrMany(), Field(max_length=16)]
Hosts = Annotated[tuple[Host, ...], OneOrMany(), Field(max_length=64)]

Seconds = Annotated[float, Quantity("a time", _TIME, 0, 86400 * 366, whole=False, example="25ms")]
WholeSeconds = Annotated[int, Quantity("a time in whole seconds", _TIME, 1, 86400 * 366, whole=True, example="10m")]
Milliseconds = Annotated[float, Quantity("a time in whole milliseconds", _TIME, 0, 60, whole=False, example="100ms")]
HoldingTime = Annotated[int, Quantity("an NHRP holding time", _TIME, 15, 65535, whole=True, example="600")]
BfdInterval = Annotated[float, Quantity("a time between BFD packets", _TIME, 0.05, 10, whole=False, example="250ms")]
BfdMultiplier = Annotated[int, Quantity("a BFD multiplier", _NONE, 2, 50, whole=True, example="3")]
Advertisement = Annotated[
    float, Quantity("a time between VRRP advertisements", _TIME, 0.1, 40, whole=False, example="500ms")
]  # RFC 5798 5.2.7 has 12 bits of centiseconds
BitsPerSecond = Annotated[int, Quantity("a rate in bits per second", _RATE, 1000, 1e12, whole=True, example="100M")]
Fraction = Annotated[float, Quantity("a share", (("%", 0.01), ("", 1.0)), 0, 1, whole=False, example="0.1%")]
Octets = Annotated[int, Quantity("an MTU in octets", _NONE, 576, 65535, whole=True, example="1500")]
Asn = Annotated[int, Quantity("an autonomous system number", _NONE, 1, 4294967294, whole=True, example="65001")]
GreKey = Annotated[int, Quantity("a GRE key", _NONE, 0, 4294967295, whole=True, example="1")]
VlanId = Annotated[int, Quantity("a VLAN id", _NONE, 1, 4094, whole=True, example="8")]
PortNumber = Annotated[int, Quantity("a port number", _NONE, 1, 65535, whole=True, example="1194")]
Count = Annotated[int, Quantity("a count", _NONE, 1, 100000, whole=True, example="3")]
V4Length = Annotated[int, Quantity("a prefix length", _NONE, 1, 32, whole=True, example="24")]
V6Length = Annotated[int, Quantity("a prefix length", _NONE, 1, 128, whole=True, example="64")]
IcmpType = Annotated[int, Quantity("an ICMP type", _NONE, 0, 255, whole=True, example="8")]
NflogGroup = Annotated[int, Quantity("an NFLOG group", _NONE, 0, 65535, whole=True, example="5")]
PolicyMark = Annotated[int, Quantity("a mark", _NONE, 1, 65535, whole=True, example="1")]
Octet = Annotated[int, Quantity("a number from 1 to 255", _NONE, 1, 255, whole=True, example="64")]


class Secret(Section):
    """A secret is never in the file: it is read from a file of its own, with mode 0600."""

    file: Path
    """Where it is, relative to the network file."""
