"""Foreign routers in a lab: those that FRR's nhrpd plays run as the real thing, where the kernel has GRE and ESP."""

from pathlib import Path, PurePosixPath

from dmvpn.errors import WrongInput
from dmvpn.lab import foreign
from dmvpn.lab.foreign import Program
from dmvpn.linux import frr_release
from dmvpn.network.foreign import compile_foreign, nhrpd_routers
from dmvpn.network.plan import ForeignPlan, Plane
from dmvpn.operations import pki, reading
from dmvpn.operations.pki import Pair
from dmvpn.operations.reading import NetworkFile
from dmvpn.render.result import Unit
from dmvpn.render.vendors import frr_nhrpd


def plans(file: NetworkFile, planes: tuple[Plane, ...]) -> dict[str, ForeignPlan]:
    """The foreign routers that can be started on a machine with these planes: none without GRE in its kernel."""
    if Plane.KERNEL not in planes:
        return {}
    return {
        router: compile_foreign(file.network, router, secrets=reading.secrets(file, router))
        for router in nhrpd_routers(file.network)
    }


def set_up(plan: ForeignPlan, ca: bytes, foreign_ca: bytes, own: Pair) -> None:
    """Inside the node: what its administrator would do with the papers of `pki issue` and this configuration.

    Raises WrongInput for a cloud with a password where nhrpd knows none.
    """
    release = frr_release.release()
    refuse_too_old(plan, release)
    rendered = frr_nhrpd.render(plan, release)
    papers = {pki.CA_CERTIFICATE: ca, pki.FOREIGN_CERTIFICATE: foreign_ca, pki.ROUTER_CERTIFICATE: own.certificate}
    texts = {str(file.path): file.text for file in rendered.files} | {
        name: content.decode() for name, content in papers.items()
    }
    # swanctl reads the key from private/, the authorities from x509ca/.
    texts |= {f"x509ca/{name}": texts[name] for name in (pki.CA_CERTIFICATE, pki.FOREIGN_CERTIFICATE)}
    secrets = {f"private/{pki.ROUTER_KEY}": own.key}
    programs = tuple(program(unit) for unit in rendered.units)
    foreign.set_up(plan, Path(frr_nhrpd.ETC), texts, secrets, programs)


def refuse_too_old(plan: ForeignPlan, release: frr_nhrpd.Release) -> None:
    """Raises WrongInput for a cloud with a password where nhrpd knows none: it would take all else and say nothing."""
    for cloud in plan.clouds:
        if cloud.nhrp.authentication is not None and release < frr_nhrpd.AUTHENTICATION_SINCE:
            version = ".".join(str(part) for part in release)
            what = f"has a secret, and the nhrpd of FRR {version} has no authentication"
            raise WrongInput(f"clouds.{cloud.name}", what, f"write lab: {{frr10: [{plan.router}]}}, or no secret")


def program(unit: Unit) -> Program:
    return Program(unit.name, unit.argv, dict(unit.environment), _path(unit.ready) if unit.daemon else None)


def _path(ready: PurePosixPath | None) -> Path | None:
    return None if ready is None else Path(ready)
