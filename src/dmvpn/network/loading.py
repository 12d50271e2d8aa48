"""From the file's text to the model, or to every problem of it at once."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dmvpn.errors import Finding, Problem, Problems
from dmvpn.network import checks
from dmvpn.network.model import Network
from dmvpn.network.source import Source, read
from dmvpn.network.wording import Repair, Worded, worded

NO_SECRETS: Mapping[str, bytes] = {}
VERSION = 1  # of the file's form
MOST_REPAIRS = 50
REPAIR_ROUNDS = 4


def load(text: str, name: str) -> Network:
    """The network of a file. Raises Problems with everything that is wrong in it; warnings are left to `check`."""
    return load_with_warnings(text, name)[0]


def load_with_warnings(
    text: str, name: str, secrets: Mapping[str, bytes] = NO_SECRETS
) -> tuple[Network, list[Finding]]:
    """The network and the warnings about it. Raises Problems when there is more than warnings."""
    network, findings = _examined(text, name, secrets)
    problems = [finding for finding in findings if not finding.warning]
    if network is None or problems:
        raise Problems(findings)
    return network, findings


def check(text: str, name: str, secrets: Mapping[str, bytes] = NO_SECRETS) -> list[Finding]:
    """Every finding, warnings included, in the file's order. `secrets` are the contents of secret files, by path."""
    try:
        return _examined(text, name, secrets)[1]
    except Problems as problems:
        return list(problems.findings)


def _examined(text: str, name: str, secrets: Mapping[str, bytes]) -> tuple[Network | None, list[Finding]]:
    source = read(text, name)
    newer = _newer(source)
    if newer is not None:
        return None, [source.finding(newer)]
    network, refusals = _modelled(source)
    valueless = {problem.key for problem in source.problems}
    found = [source.finding(_second_tunnel(problem)) for problem in source.problems]
    found += [_located(source, refusal) for refusal in refusals if refusal.problem.key not in valueless]
    if network is not None:
        found += [source.finding(problem) for problem in checks.problems(network, secrets)]
    findings = sorted(dict.fromkeys(found), key=_order)
    return (None if refusals or source.problems else network), findings


def _newer(source: Source) -> Problem | None:
    """A file of a later form: what else seems wrong in it is only what this program does not know yet."""
    version = source.values.get("version") if isinstance(source.values, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version <= VERSION:
        return None
    what = f"version {version} is that of a newer OpenDMVPN: this one reads version {VERSION}"
    return Problem(("version",), what, "install the one that it was written for")


def _second_tunnel(problem: Problem) -> Problem:
    """A cloud's name twice among a router's tunnels is an operator who wants two tunnels there."""
    if problem.key[-3:-2] != ("tunnels",):
        return problem
    what = f"the router has two tunnels in cloud {problem.key[-2]}"
    return Problem(problem.key, what, "make a second cloud: two clouds are two independent DMVPNs")


def _modelled(source: Source) -> tuple[Network | None, list[Worded]]:
    """The model and its refusals, both when every refusal had an obvious repair.

    A misspelt word is read as the word it resembles, so that the other checks see the file as it was meant.
    """
    refusals: list[Worded] = []
    for _ in range(REPAIR_ROUNDS):
        try:
            return Network.model_validate(source.values), refusals
        except ValidationError as error:
            new = list(worded(error))
        refusals += new
        repairs = [refusal.repair for refusal in new if refusal.repair is not None]
        if len(repairs) < len(new) or len(refusals) > MOST_REPAIRS or not isinstance(source.values, dict):
            break
        for repair in repairs:
            _mend(source, repair)
    return None, refusals


def _mend(source: Source, repair: Repair) -> None:
    here: Any = source.values
    for part in repair.key[:-1]:
        here = here[part]
    last = repair.key[-1]
    if repair.value is not None:
        here[last] = repair.value
        return
    value = here.pop(last)
    if repair.rename is not None and repair.rename not in here:
        here[repair.rename] = value
        source.call(repair.key, repair.rename)


def _located(source: Source, refusal: Worded) -> Finding:
    problem: Problem = refusal.problem
    where = source.where_key(problem.key) if refusal.at_key else source.where(problem.key)
    return Finding(where, problem.what, problem.fix, problem.warning)


def _order(finding: Finding) -> tuple[int, int, str]:
    _, line, column = finding.where.rsplit(":", 2)
    return int(line), int(column), finding.what
