"""host.json: what dmvpn.linux.host_state keeps of the machine itself; nothing where the file says nothing of it."""

from dmvpn.network.plan import Plan
from dmvpn.render.layout import Layout
from dmvpn.render.result import Change, File, Needs, Rendered, Unit, ours
from dmvpn.render.words import as_json, word

NAME = "host"
FILE = "host.json"


def render(plan: Plan, layout: Layout) -> Rendered:
    host = plan.host
    if host.nothing:
        return Rendered(NAME, ())
    path = layout.current / FILE
    document = {
        "version": 1,
        "network": plan.network,
        "state": str(layout.state / FILE),
        "hostname": host.hostname,
        "timezone": host.timezone,
        "resolvers": [word(address, "system.resolvers") for address in host.resolvers],
        "admins": [{"account": word(one.account, "system.admins"), "key": one.key} for one in host.admins],
    }
    file = File(path.relative_to(layout.current), as_json(document))
    apply = ("python3", "-m", "dmvpn.linux.host_state", "apply", str(path))
    unit = Unit(
        name=f"dmvpn-{plan.network}-host",
        argv=apply,
        package="opendmvpn",
        daemon=False,
        reload=apply,
        stop=("python3", "-m", "dmvpn.linux.host_state", "remove", str(path)),
        reads=(file.path,),
        on_change=Change.RELOAD,
        needs=Needs(machine=True),
    )
    return Rendered(NAME, (file,), (ours("dmvpn.linux.host_state", file),), (unit,))
