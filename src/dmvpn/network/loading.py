"""From the file's text to the model, or to every problem of it at once."""

from collections.abc import Mapping

from pydantic import ValidationError

from dmvpn.errors import Finding, Problem, Problems
from dmvpn.network import checks
from dmvpn.network.model import Network
from dmvpn.network.source import Key, Source, read
from dmvpn.network.wording import Repair, Worded, worded

NO_SECRETS: Mapping[str, bytes] = {}
MOST_REPAIRS = 50


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
    network, refusals, repaired = _modelled(source.values)
    found = [source.finding(_second_tunnel(problem)) for problem in source.problems]
    found += [_located(source, refusal) for refusal in refusals]
    doubtful = [repair.key[:-1] for repair in repaired if repair.rename is None and repair.value is None]
    if network is not None:
        for problem in checks.problems(network, secrets):
            if not any(_touches(problem.key, key) for key in doubtful):
                found.append(source.finding(problem))
    findings = sorted(dict.fromkeys(found), key=_order)
    return (None if refusals or source.problems else network), findings


def _second_tunnel(problem: Problem) -> Problem:
    """A cloud's name twice among a router's tunnels is an operator who wants two tunnels there."""
    if problem.key[-3:-2] != ("tunnels",):
        return problem
    what = f"the router has two tunnels in cloud {problem.key[-2]}"
    return Problem(problem.key, what, "make a second cloud: two clouds are two independent DMVPNs")


def _modelled(values: object) -> tuple[Network | None, list[Worded], list[Repair]]:
    """The model, its refusals, and what was repaired to come to a model in spite of them.

    A misspelt word is read as the word it resembles, so that the other checks see the file as it was meant.
    """
    try:
        return Network.model_validate(values), [], []
    except ValidationError as error:
        refusals = list(worded(error))
    repairs = [refusal.repair for refusal in refusals if refusal.repair is not None]
    if len(repairs) < len(refusals) or len(repairs) > MOST_REPAIRS or not isinstance(values, dict):
        return None, refusals, []
    for repair in repairs:
        _mend(values, repair)
    try:
        return Network.model_validate(values), refusals, repairs
    except ValidationError as error:
        known = {refusal.problem.key for refusal in refusals}
        missing = [again for again in worded(error) if again.problem.key not in known]
        renamed = {repair.key[:-1] for repair in repairs}
        refusals += [again for again in missing if again.problem.key[:-1] not in renamed]
        return None, refusals, []


def _mend(values: object, repair: Repair) -> None:
    here = values
    for part in repair.key[:-1]:
        here = here[part]  # type: ignore[index]
    if isinstance(here, list) and isinstance(repair.key[-1], int):
        here[repair.key[-1]] = repair.value
    if not isinstance(here, dict):
        return
    last = repair.key[-1]
    if repair.value is not None:
        here[last] = repair.value
    elif (value := here.pop(last, None)) is not None and repair.rename and repair.rename not in here:
        here[repair.rename] = value


def _touches(key: Key, doubtful: Key) -> bool:
    return key[: len(doubtful)] == doubtful


def _located(source: Source, refusal: Worded) -> Finding:
    problem: Problem = refusal.problem
    where = source.where_key(problem.key) if refusal.at_key else source.where(problem.key)
    return Finding(where, problem.what, problem.fix, problem.warning)


def _order(finding: Finding) -> tuple[int, int, str]:
    _, line, column = finding.where.rsplit(":", 2)
    return int(line), int(column), finding.what
