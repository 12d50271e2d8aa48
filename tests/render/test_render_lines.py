"""No value of the file or of a certificate adds a line to a rendered file, or a word to a command."""

import copy
import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dmvpn.errors import Fault, Problems, WrongInput
from dmvpn.identity import addrblock, claims, der
from dmvpn.identity.claims import Claims
from dmvpn.identity.der import Malformed
from dmvpn.network.compile import compile_plan, routers, secret_files
from dmvpn.network.loading import load
from dmvpn.network.model import Network
from dmvpn.network.plan import Plane
from dmvpn.network.reference import _sections
from dmvpn.network.source import read
from dmvpn.network.values import Parsed, Spelling
from dmvpn.network.writing import text_of
from dmvpn.render.engines import render_all

ROOT = Path(__file__).parents[2]
# What ends a line, a word, a string or a section for some reader of some file, or means something to a shell.
BREAKS = "\n\r\v\f\0\x1c\x1d\x1e\x85\u2028\u2029"
SPECIAL = BREAKS + "\t\"'`\\;{}#$|&<>()!^"
HOSTILE = (
    "\n",
    "\r\n",
    "x\nevil yes",
    "x\n}\nevil {\n",
    "\u2028x",
    "x\u0085y",
    "x\0",
    "x; flush ruleset",
    "x } evil { ",
    '"; evil "',
    "'; evil '",
    "$(evil)",
    "`evil`",
    "x # evil",
    "x!",
    "x y",
    "-x",
    "--evil",
    "../../etc/x",
    "%n",
    "x\\",
)

# ------------------------------------------------------------------ the types of the file


def spelled(kind: Any) -> Iterator[Spelling | Parsed]:
    """Every string type that stands somewhere in a field's type, the keys of mappings too."""
    if get_origin(kind) is Annotated:
        yield from (word for word in kind.__metadata__ if isinstance(word, Spelling | Parsed))
    for argument in get_args(kind):
        if not isinstance(argument, str):
            yield from spelled(argument)


def string_types() -> list[Any]:
    found: dict[str, Spelling | Parsed] = {}
    for path, model in _sections():
        for name, field in model.model_fields.items():
            kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            for word in spelled(kind):
                found.setdefault(word.what, word)
            assert not _has_bare_string(kind), f"{path}.{name} takes any string"
    return [pytest.param(word, id=what) for what, word in sorted(found.items())]


def _has_bare_string(kind: Any) -> bool:
    if kind is str:
        return True
    if get_origin(kind) is Annotated:
        if any(isinstance(word, Spelling | Parsed) for word in kind.__metadata__):
            return False
        return _has_bare_string(get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return False
    return any(_has_bare_string(argument) for argument in get_args(kind) if not isinstance(argument, str))


TYPES = string_types()


@pytest.mark.parametrize("kind", TYPES)
def test_no_string_of_the_file_can_have_a_character_that_means_something(kind: Spelling | Parsed) -> None:
    for char in SPECIAL:
        for value in (char, f"{kind.example}{char}", f"{char}{kind.example}", f"{kind.example}{char}{kind.example}"):
            with pytest.raises(ValueError, match=r".") as caught:
                kind.check(value)
            assert "\n" not in str(caught.value), "and its message is one line too"


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_a_string_type_takes_is_of_harmless_characters(kind: Spelling | Parsed, data: st.DataObject) -> None:
    text = data.draw(
        st.from_regex(kind.pattern, fullmatch=True) if isinstance(kind, Spelling) else st.text(max_size=30)
    )
    try:
        kind.check(text)
    except ValueError:
        return
    assert set(text) <= set(string.ascii_letters + string.digits + " ._:=+/,@~*-"), text


# ------------------------------------------------------------------ rendered

FILE = """
version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/8]
transport: 100.64.0.0/16
crypto: {modern: {ike: aes256gcm16-prfsha384-ecp384, esp: aes256gcm16, rekey: 2h}}
clouds:
  blue: {overlay: [10.255.1.0/24], gre-key: 1, hubs: hub.example.net, crypto: modern, bfd: true}
  green: {overlay: [10.255.2.0/24], gre-key: 2, routing: ospf, crypto: modern, nhrp: {secret: {file: secrets/nhrp}}}
sites:
  hq:
    asn: 65000
    networks: {lan: {port: eth1, prefix: 10.1.0.0/24, zone: lan}}
    routers:
      hq1:
        transport: 100.64.0.1
        uplinks: {wan: {port: eth0, address: 192.0.2.2/30, gateway: 192.0.2.1, public: 203.0.113.2}}
        tunnels: {blue: {role: hub, address: 10.255.1.1, over: [wan]}, green: {role: hub, address: 10.255.2.1}}
  paris:
    asn: 65001
    networks: {lan: {port: eth1, prefix: 10.1.1.0/24, zone: lan}}
    routers:
      par1:
        platform: debian
        uplinks: {isp1: {port: eth0, address: 198.51.100.2/30, gateway: 198.51.100.1}}
        tunnels: {blue: {address: 10.255.1.11, over: isp1}, green: {address: 10.255.2.11}}
  bonn:
    asn: 65002
    networks: {lan: {prefix: 10.1.2.0/24, port: eth1}}
    routers:
      bon1:
        platform: frr
        claims: {from: file}
        uplinks: {wan: {interface: eth0, address: 203.0.113.10/30, gateway: 203.0.113.9}}
        tunnels: {green: {interface: tun2, address: 10.255.2.15}}
system: {timezone: Europe/Paris, admins: [{ssh-key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA anna@example.net"}]}
"""
VALUES: Any = read(FILE, "network.yaml").values


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every string of the file: values, and keys that are names (a path that ends in KEY)."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield (*path, key, "KEY")
            yield from places(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from places(below, (*path, index))
    elif isinstance(value, str):
        yield path


PLACES = list(places(VALUES))


def changed(path: tuple[Any, ...], text: str) -> dict[str, Any]:
    values = copy.deepcopy(VALUES)
    here: Any = values
    *way, last = path[:-1] if path[-1] == "KEY" else path
    for part in way:
        here = here[part]
    if path[-1] != "KEY":
        here[last] = text
        return values  # type: ignore[no-any-return]
    renamed = {text if key == last else key: below for key, below in here.items()}
    here.clear()
    here.update(renamed)
    return values  # type: ignore[no-any-return]


def shape(network: Network) -> dict[tuple[int, Any], Any]:
    """By router and file: how many lines; by router and unit: how many words. Also asserts that no word breaks."""
    found: dict[tuple[int, Any], Any] = {}
    for number, router in enumerate(routers(network)):
        secrets = dict.fromkeys(secret_files(network, router), b"secret")
        for plane in Plane:
            plan = compile_plan(network, router, planes=(plane, Plane.USERSPACE), secrets=secrets)
            for part in render_all(plan):
                for file in part.files:
                    assert not set(file.text) & (set(BREAKS) - {"\n"}), file.path
                    found[number, (plane, part.engine, len(found))] = file.text.count("\n")
                for unit in part.units:
                    commands = (unit.argv, unit.reload, unit.stop, *unit.environment)
                    for word in (word for command in commands for word in command):
                        assert not set(word) & set(SPECIAL), word
                    found[number, (plane, unit.name.rsplit("-", 1)[-1])] = tuple(map(len, commands))
    return found


HARMLESS = shape(load(FILE, "network.yaml"))


def test_the_harmless_file_is_rendered_by_every_engine() -> None:
    assert len(HARMLESS) > 40


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(PLACES),
    st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=12),
    st.sampled_from(("{0}", "{1}{0}", "{0}{1}")),
)
def test_a_hostile_string_is_refused_or_changes_no_files_shape(path: tuple[Any, ...], hostile: str, place: str) -> None:
    old = path[-2] if path[-1] == "KEY" else _at(path)
    text = place.format(hostile, old)
    assume(not any("\ud800" <= char <= "\udfff" for char in text))
    try:
        network = load(text_of(changed(path, text)), "network.yaml")
        new = shape(network)
    except (Problems, WrongInput) as refused:
        said = str(refused)
    except Fault as refused:
        pytest.fail(f"a renderer refuses what check takes: {refused}")
    else:
        assert sorted(map(str, new.values())) == sorted(map(str, HARMLESS.values())) or _is_another_meaning(path)
        return
    assert not set(said) & (set(BREAKS) - {"\n"}), said


def _at(path: tuple[Any, ...]) -> str:
    here: Any = VALUES
    for part in path:
        here = here[part]
    return str(here)


def _is_another_meaning(path: tuple[Any, ...]) -> bool:
    """Words of a closed list and addresses, where another one is another network."""
    return path[-1] in ("routing", "platform", "role", "zone", "public", "gateway")


# ------------------------------------------------------------------ certificates


def certificate(*, network: str, router: str, role: str, common: str, names: list[x509.GeneralName]) -> bytes:
    """As somebody with the authority's key could make one, whatever our own issuing refuses."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    extension = der.sequence(
        der.integer(1), der.text(network), der.text(router), der.text(role), der.integer(65001), der.sequence()
    )
    block = x509.UnrecognizedExtension(x509.ObjectIdentifier(addrblock.OID), addrblock.encode([BLOCK]))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(block, critical=True)
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(claims.OID), extension), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


BLOCK = IPv4Network("100.64.0.11/32")
PLAIN = {"network": "acme", "router": "par1", "role": "spoke"}


@pytest.mark.parametrize("field", PLAIN)
@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_claims_with_a_hostile_string_are_no_claims(field: str, hostile: str) -> None:
    text = hostile if hostile.startswith("-") else PLAIN[field] + hostile
    made = certificate(**{**PLAIN, field: text}, common="x", names=[x509.DNSName("par1.example.net")])
    with pytest.raises(Malformed) as caught:
        Claims.from_certificate(made)
    assert not set(str(caught.value)) & set(BREAKS)


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), st.sampled_from(sorted(PLAIN)))
def test_whatever_a_certificate_says_its_claims_are_harmless(common: str, text: str, field: str) -> None:
    assume(not any("\ud800" <= char <= "\udfff" for char in common + text))
    made = certificate(**{**PLAIN, field: text}, common=common, names=[x509.DNSName("par1.example.net")])
    try:
        read = Claims.from_certificate(made)
    except Malformed:
        return
    assert re.fullmatch(r"[a-z0-9.-]+", read.network + read.router + read.role)
