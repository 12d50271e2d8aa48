"""What `status` says of the fail-closed rules and policies that somebody took away."""

from dmvpn.daemon.control import REMARK, SEVERE, RulesRow, Trouble

LOOK_AT_POLICIES = "ip xfrm policy"
REMEMBERED_S = 3600.0  # how long a rule set that was put back is worth a word


def rules_troubles(rules: RulesRow, guards: dict[str, int]) -> list[Trouble]:
    """The rules are one guard of three: while they are away, nothing leaves in clear either."""
    look, by = f"nft list table inet {rules.table}", f" by {rules.by}" if rules.by else ""
    if rules.damaged_s is not None or not guards:
        why = f"; they cannot be put back: {rules.trouble}" if rules.trouble else ""
        fight = "; another program keeps changing them" if rules.contested else ""
        policy = ", and nothing is filtered" if rules.filters else ""
        what = (
            f"the fail-closed rules are gone: somebody flushed the rule set (two other guards hold{policy}){fight}{why}"
        )
        return [Trouble(SEVERE, what, look)]
    if rules.contested:
        what = f"another program keeps changing the fail-closed rules{by}: they were put back {rules.mended} times"
        return [Trouble(SEVERE, what, look)]
    return _mended("rules", rules)


def policies_troubles(policies: RulesRow | None) -> list[Trouble]:
    """They block what charon has no policy for. A flush takes charon's too: paths are then dead until they are new."""
    if policies is None:
        return []
    if policies.damaged_s is not None:
        why = f"; they cannot be put back: {policies.trouble}" if policies.trouble else ""
        fight = "; another program keeps deleting them" if policies.contested else ""
        what = f"the fail-closed XFRM policies are gone: somebody flushed them (two other guards hold){fight}{why}"
        return [Trouble(SEVERE, what, LOOK_AT_POLICIES)]
    if policies.contested:
        what = (
            f"another program keeps deleting the fail-closed XFRM policies: they were put back {policies.mended} times"
        )
        return [Trouble(SEVERE, what, LOOK_AT_POLICIES)]
    return _mended("XFRM policies", policies)


def _mended(name: str, row: RulesRow) -> list[Trouble]:
    if row.last_s is None or row.missing_s is None or row.last_s > REMEMBERED_S:
        return []
    look = f"nft list table inet {row.table}" if row.table else LOOK_AT_POLICIES
    by = f" by {row.by}" if row.by else ""
    ago = f"{row.last_s:.0f} s" if row.last_s < 100 else f"{row.last_s / 60:.0f} min"
    times = f", {row.mended} times since dmvpnd started" if row.mended > 1 else ""
    what = (
        f"the fail-closed {name} were changed{by} and put back {ago} ago after {row.missing_s:.2f} s{times}"
        " (two other guards held)"
    )
    return [Trouble(REMARK, what, look)]
