"""Writing the network file: the first one by an interview, then sites in and out of it. Checked before all that."""

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dmvpn.errors import Fault, Finding, Problems, WrongInput
from dmvpn.linux import files
from dmvpn.network import editing, loading
from dmvpn.network.beginning import Beginning, first_file
from dmvpn.network.plan import Role
from dmvpn.network.proposals import Wanted, new_site
from dmvpn.network.values import Address, Domain, Interface, Name, Prefix4
from dmvpn.operations import reading

NARROWEST = 22
ASN_LARGEST = 4294967294
Answers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """One question of the interview: its option's name, how it is asked, what is taken when nothing is said."""

    key: str
    asks: str
    default: Callable[[Answers], str]
    check: Callable[[str], object]


def _value(kind: Any, what: str) -> Callable[[str], Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def check(text: str) -> Any:
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            context = error.errors()[0].get("ctx", {})
            raise WrongInput(what, str(context.get("what", text)), str(context.get("fix", ""))) from None

    return check


def _names(text: str) -> tuple[str, ...]:
    return tuple(_value(Name, "sites")(name) for name in text.replace(",", " ").split())


def _optional_address(text: str) -> object:
    return None if text in ("", "-") else _value(Address, "hub-public")(text)


def _gateway(answers: Answers) -> str:
    address = _value(Interface, "hub-address")(answers["hub-address"])
    return str(next(host for host in address.network.hosts() if host != address.ip))


def _fixed(text: str) -> Callable[[Answers], str]:
    return lambda _answers: text


QUESTIONS: tuple[Question, ...] = (
    Question("network", "Name of the network", _fixed("acme"), _value(Name, "network")),
    Question("domain", "Domain of the routers' names", _fixed("example.net"), _value(Domain, "domain")),
    Question("prefix", "All addresses that are internal", _fixed("10.0.0.0/8"), _value(Prefix4, "prefix")),
    Question("overlay", "Tunnel addresses", lambda answers: _overlay(answers), _value(Prefix4, "overlay")),
    Question("hub-site", "Site of the hub", _fixed("hq"), _value(Name, "hub-site")),
    Question("hub-address", "The hub's uplink address", _fixed("192.0.2.2/30"), _value(Interface, "hub-address")),
    Question("hub-gateway", "Its ISP's gateway", _gateway, _value(Address, "hub-gateway")),
    Question("hub-public", "Its public address, if a 1:1 NAT hides that (- for none)", _fixed("-"), _optional_address),
    Question("sites", "Other sites", _fixed("paris oslo"), _names),
)


def _overlay(answers: Answers) -> str:
    """10.255.1.0/24 in 10.0.0.0/8; elsewhere the last /24."""
    prefix: IPv4Network = _value(Prefix4, "prefix")(answers["prefix"])
    if prefix.prefixlen <= 8:
        return str(IPv4Network((int(prefix.network_address) + (255 << 16) + (1 << 8), 24)))
    length = min(max(24, prefix.prefixlen + 1), 30)
    return str(IPv4Network((int(prefix.broadcast_address) + 1 - (1 << (32 - length)), length)))


def refuse_existing(path: Path) -> None:
    if path.exists():
        raise Fault(str(path), "is there already", "add to it with: dmvpn site add NAME")


def init(path: Path, answers: Answers) -> str:
    """Write the first network file. Returns its text. Raises WrongInput, Problems; then nothing was written."""
    refuse_existing(path)
    given = {question.key: question.check(answers[question.key]) for question in QUESTIONS}
    asked = Beginning(**{key.replace("-", "_"): value for key, value in given.items()})  # type: ignore[arg-type]
    if asked.prefix.prefixlen > NARROWEST:
        what = f"{asked.prefix} has no room for sites of 256 addresses each"
        raise WrongInput("prefix", what, f"use a /{NARROWEST} or wider, such as 10.0.0.0/8")
    if not asked.overlay.subnet_of(asked.prefix):
        raise WrongInput("overlay", f"{asked.overlay} is not inside {asked.prefix}", "choose a part of that")
    text = first_file(asked)
    _check(text, str(path))
    files.write(path, text)
    return text


def add_site(path: Path, wanted: Wanted) -> dict[str, Any]:
    """One more site in the file. Returns it as values. Raises WrongInput, Problems; then the file is as it was."""
    loaded = reading.read(path)
    site = new_site(loaded.network, wanted)
    _replace(path, editing.add_site(loaded.text, loaded.name, wanted.name, site).text)
    return site


def remove_site(path: Path, name: str) -> int:
    """The file without that site; the number of lines that went. Raises Problems naming who still needs it."""
    loaded = reading.read(path)
    edited = editing.remove_site(loaded.text, loaded.name, name)
    still = [_as_before(finding, edited) for finding in loading.check(edited.text, loaded.name) if not finding.warning]
    if still:
        raise Problems([Finding(one.where, f"without {name}: {one.what}", one.fix, warning=False) for one in still])
    _replace(path, edited.text)
    return edited.removed_lines


def _as_before(finding: Finding, edited: editing.Edited) -> Finding:
    """Where it is in the file that is still there."""
    file, line, column = finding.where.rsplit(":", 2)
    moved = edited.removed_lines if int(line) >= edited.removed_from else 0
    return Finding(f"{file}:{int(line) + moved}:{column}", finding.what, finding.fix, finding.warning)


def _check(text: str, name: str) -> None:
    findings = loading.check(text, name)
    if any(not finding.warning for finding in findings):
        raise Problems([finding for finding in findings if not finding.warning])


def _replace(path: Path, text: str) -> None:
    _check(text, str(path))
    target = path.resolve()  # of a link, what it leads to
    with files.faults(target):
        mode = stat.S_IMODE(target.stat().st_mode)
    files.write(target, text, mode=mode)


def wanted_site(
    name: str, options: Mapping[str, str | None], clouds: tuple[str, ...], *, flags: frozenset[str]
) -> Wanted:
    """What the command line says of a new site. Raises WrongInput for a value that the file could not have."""
    kinds = {"router": Name, "prefix": Prefix4, "address": Interface, "gateway": Address}
    given: dict[str, Any] = {
        key: _value(kinds[key], key)(value) if key in kinds else value
        for key, value in options.items()
        if value is not None
    }
    asn = given.pop("asn", None)
    if asn is not None and not (asn.isdigit() and 1 <= int(asn) <= ASN_LARGEST):
        raise WrongInput("asn", f"{asn} is no autonomous system number", f"use 1 to {ASN_LARGEST}")
    if "dhcp" in flags and "address" in given:
        raise WrongInput("address", "and --dhcp are both there", "the ISP gives an address, or you do")
    return Wanted(
        name=_value(Name, "site")(name),
        asn=None if asn is None else int(asn),
        dhcp="dhcp" in flags,
        role=Role.HUB if "hub" in flags else Role.SPOKE,
        clouds=clouds,
        **given,
    )
