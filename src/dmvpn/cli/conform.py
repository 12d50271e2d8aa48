"""dmvpn nhrp conform: a table of what an NHRP peer does with what RFC 2332 asks of it."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated

import typer

from dmvpn.cli.completion import clouds
from dmvpn.cli.observe import NetworkOption
from dmvpn.cli.reading import JsonOption
from dmvpn.cli.text import say, say_json, say_table
from dmvpn.errors import WrongInput

SHORT_FROM, SHORT_TO = 16, 28  # version and kind up to the request id
STYLES = {"pass": "green", "fail": "red", "not answered": "red", "not applicable": None}


def conform(
    peer: Annotated[str, typer.Argument(metavar="ADDRESS", help="The peer's overlay address.")],
    device: Annotated[str | None, typer.Option("--device", help="The tunnel to it: an mGRE device or our TAP.")] = None,
    cloud: Annotated[
        str | None, typer.Option("--cloud", help="The cloud, in place of its device.", autocompletion=clouds)
    ] = None,
    nbma: Annotated[str | None, typer.Option("--nbma", help="Its NBMA address, if it is no neighbour yet.")] = None,
    own_nbma: Annotated[str | None, typer.Option("--own-nbma", help="The NBMA address of this machine.")] = None,
    second_nbma: Annotated[
        str | None, typer.Option("--second-nbma", help="Another one (GRE in clear), to register from.")
    ] = None,
    registers: Annotated[
        str | None, typer.Option("--as", metavar="ADDRESS", help="Register this instead of the own overlay address.")
    ] = None,
    unknown: Annotated[str | None, typer.Option("--unknown", help="An overlay address that nobody has.")] = None,
    beyond: Annotated[str | None, typer.Option("--beyond", help="Another client of the peer: shows transit.")] = None,
    authentication: Annotated[
        Path | None, typer.Option("--authentication", metavar="FILE", help="File with the cloud's NHRP password.")
    ] = None,
    network: NetworkOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Register and take back an address that is in use.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Every octet sent and received, passwords masked.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Try an NHRP peer against RFC 2332, case by case.

    The run registers one address at the peer and takes it back, many times in some 20 seconds; an address in use
    (this router's own) is unreachable through the peer for moments, and is registered again at the end.
    """
    from dmvpn.operations import conformance

    station = conformance.station(
        conformance.Asked(
            peer=_address(peer),
            network=network,
            cloud=cloud,
            device=device,
            peer_nbma=_maybe(nbma),
            own_nbma=_maybe(own_nbma),
            second_nbma=_maybe(second_nbma),
            registers=_maybe(registers),
            unknown=_maybe(unknown),
            beyond=_maybe(beyond),
            authentication=authentication,
        )
    )
    bench = station.bench
    if station.live and not yes:
        what = f"is in use on {station.device}: the run takes it back at {bench.peer} for moments"
        raise WrongInput(str(bench.registers), what, "name a spare one with --as, or agree with --yes")
    if not as_json:
        say(f"{bench.registers} at {bench.nbma} asks {bench.peer} at {bench.peer_nbma} through {station.device}")
    found = []
    for finding in conformance.findings(station):
        found.append(finding)
        if verbose and not as_json:
            say(f"{finding.case.name}: {finding.judgement.verdict}: {finding.judgement.sentence}")
            for turn in finding.turns:
                say(f"  > {conformance.masked(turn.sent, bench.password).hex()}")
                for octets in turn.received:
                    say(f"  < {conformance.masked(octets, bench.password).hex()}")
    if as_json:
        say_json([_json(finding, bench.password) for finding in found])
    else:
        rows = [_row(finding) for finding in found]
        say_table(["CASE", "RFC 2332", "RULE", "SENT", "RECEIVED", "VERDICT", "WHY"], rows)
    _conclude(found, quiet=as_json)


def _conclude(found: list, *, quiet: bool) -> None:  # type: ignore[type-arg]
    from dmvpn.operations import conformance

    counts: dict[str, int] = {}
    for finding in found:
        verdict = finding.judgement.verdict.value
        counts[verdict] = counts.get(verdict, 0) + 1
    failed = any(conformance.is_failure(finding) for finding in found)
    if not quiet:
        summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        say(summary, style="red" if failed else "green")
    if failed:
        raise typer.Exit(1)


def _row(finding) -> list[str]:  # type: ignore[no-untyped-def]
    case, judgement = finding.case, finding.judgement
    last = finding.turns[-1] if finding.turns else None
    return [
        case.name,
        case.section,
        case.rule,
        "-" if last is None else _short(last.sent),
        "-" if last is None or not last.received else _short(last.received[0]),
        judgement.verdict.value,
        judgement.sentence,
    ]


def _short(octets: bytes) -> str:
    """Kind, lengths, flags and request id; and how many octets it has."""
    return f"..{octets[SHORT_FROM:SHORT_TO].hex()}.. ({len(octets)})"


def _json(finding, password: bytes | None) -> dict[str, object]:  # type: ignore[no-untyped-def]
    from dmvpn.operations import conformance

    return {
        "case": finding.case.name,
        "section": finding.case.section,
        "rule": finding.case.rule,
        "verdict": finding.judgement.verdict.value,
        "why": finding.judgement.sentence,
        "turns": [
            {
                "sent": conformance.masked(turn.sent, password).hex(),
                "received": [conformance.masked(octets, password).hex() for octets in turn.received],
            }
            for turn in finding.turns
        ],
    }


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise WrongInput(text, "not an IP address") from error


def _maybe(text: str | None) -> IPv4Address | IPv6Address | None:
    return None if text is None else _address(text)
