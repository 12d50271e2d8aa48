"""adoption.json: services of the host's own that make room for ours; nothing where the file names none.

dmvpn.linux.adoption stops and masks them before anything of ours wants their ports, and brings them back after the
last of ours has stopped.
"""

from dmvpn.network.plan import Plan
from dmvpn.render.layout import Layout
from dmvpn.render.result import Change, File, Needs, Rendered, Unit, ours
from dmvpn.render.words import as_json, word

NAME = "adoption"
FILE = "adoption.json"
STOP_S = 120.0  # what is stopped may take systemd's own 90 s


def render(plan: Plan, layout: Layout) -> Rendered:
    if not plan.adopts:
        return Rendered(NAME, ())
    path = layout.current / FILE
    document = {
        "version": 1,
        "record": str(layout.adopted),
        "services": [word(name, "adopt") for name in plan.adopts],
    }
    file = File(path.relative_to(layout.current), as_json(document))
    apply = ("python3", "-m", "dmvpn.linux.adoption", "apply", str(path))
    unit = Unit(
        name=f"dmvpn-{plan.network}-adoption",
        argv=apply,
        package="opendmvpn",
        daemon=False,
        reload=apply,
        stop=("python3", "-m", "dmvpn.linux.adoption", "release", str(path)),
        reads=(file.path,),
        on_change=Change.RELOAD,
        start_timeout_s=STOP_S,
        # It only asks systemd. Another network's record is beside ours.
        needs=Needs(writes=(layout.state.parent,)),
    )
    return Rendered(NAME, (file,), (ours("dmvpn.linux.adoption", file),), (unit,))
