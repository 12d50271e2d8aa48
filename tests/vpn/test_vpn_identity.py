"""Papers that change while traffic flows, and papers that are revoked: real charons, two hubs, a desk."""

import time
from functools import partial
from pathlib import Path

import pytest
from vpn_lab import Figure, Vpn, until, until_nothing

from dmvpn.identity import authority
from dmvpn.linux import files
from dmvpn.linux.process import Result

pytestmark = pytest.mark.lab
NETWORK = "identity"
DESK = ("-f", "/var/office/network.yaml", "-d", "/var/office/pki")
PKI = "/etc/dmvpn/papers/pki"


def desk(vpn: Vpn, *words: str) -> Result:
    done = vpn.run("desk", "dmvpn", "pki", *words)
    assert done.status == 0, done
    return done


def carry(vpn: Vpn, source: str, router: str, target: str) -> None:
    """A file or the files of a directory from the desk to a router, as on a stick."""
    for name, content in vpn.node("desk").call(partial(_contents, Path(source))).items():
        vpn.node(router).call(partial(_put, Path(target) / name, content))


def _contents(source: Path) -> dict[str, bytes]:
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    return {path.name: files.read(path) for path in paths}


def _put(target: Path, content: bytes) -> None:
    files.make_directory(target.parent, mode=0o700)
    files.write_secret(target, content)


def install(vpn: Vpn, router: str) -> None:
    """The papers that the desk has for a router."""
    carry(vpn, f"/var/office/pki/routers/{router}", router, "/run/papers")
    done = vpn.dmvpn(router, "pki", "install", "/run/papers")
    assert done.status == 0, done


def serial(vpn: Vpn, router: str) -> int:
    return authority.describe(vpn.node(router).call(partial(files.read, Path(f"{PKI}/router.pem")))).serial


def sas(vpn: Vpn, router: str) -> list[str]:
    """The routers that charon has an SA with that carries something, by its own word."""
    socket = f"unix://{vpn.layout.vici_socket}"
    text = vpn.run(router, "swanctl", "--list-sas", "--uri", socket).text
    return sorted({line.split("'")[1].partition(".")[0] for line in text.splitlines() if line.startswith("  remote")})


def new_papers(vpn: Vpn, router: str, *how: str) -> int:
    before = serial(vpn, router)
    done = vpn.dmvpn(router, *how)
    assert done.status == 0, done
    assert serial(vpn, router) != before
    return serial(vpn, router)


def test_a_hub_becomes_a_renewal_authority_by_papers(vpn: Vpn) -> None:
    desk(vpn, "renewal", "hq1", *DESK)
    desk(vpn, "issue", "hq1", *DESK)
    install(vpn, "hq1")
    assert vpn.run("hq1", "stat", "-c", "%a", f"{PKI}/renewal.key").text == "600\n"


def test_a_router_renews_without_losing_a_packet(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=20)
        flow.mark()
        before = sas(vpn, "par1")
        new_papers(vpn, "par1", "pki", "renew")
        assert set(before) <= set(sas(vpn, "par1"))
        assert flow.lost() == []


def test_a_new_sa_uses_the_renewed_certificate(vpn: Vpn) -> None:
    """Whoever starts anew meets it: the chain through the renewal authority is good for charon's addrblock too."""
    pid = vpn.kill("par1", "charon")
    vpn.returned("par1", "charon", pid)
    until_nothing("par1 to be back", partial(vpn.unsettled, "par1"), within_s=30)
    log = vpn.logs("hq1")
    assert any("papers renewal hq1" in text for text in log.values())


def remains(vpn: Vpn, who: str, overlay: str) -> list[str]:
    """What any router but itself still has of a router: SAs, bindings, shortcuts that carry something."""
    left = []
    for router in vpn.routers():
        if router == who:
            continue
        status = vpn.status(router)
        left += [f"{router}: SA" for name in sas(vpn, router) if name == who]
        rows = [row for row in status.peers if row.name == who or row.overlay == overlay]
        # Traffic for it makes its router ask again and again for a direct way; that is nothing that carries.
        left += [f"{router}: {row.kind} {row.state}" for row in rows if row.kind != "shortcut" or row.state == "direct"]
        known = ("10.1.12.", overlay)
        left += [
            f"{router}: {row.protocol}" for row in status.cache if row.state == "UP" and row.protocol.startswith(known)
        ]
    return left


def test_a_revoked_router_is_gone_everywhere_within_seconds(vpn: Vpn, figure: Figure) -> None:
    with vpn.flow("lyon-pc", "paris-pc") as flow:
        flow.until("direct", within_s=30)
        assert "lyo1: shortcut direct" in remains(vpn, "par1", "10.255.1.12")
        desk(vpn, "revoke", "par1", "--reason", "key-compromise", "-d", "/var/office/pki")
        desk(vpn, "publish", *DESK)
        carry(vpn, "/var/office/pki/crl.pem", "res1", "/run")
        began = time.monotonic()
        done = vpn.dmvpn("res1", "pki", "install-crl", "/run/crl.pem")
        assert done.status == 0, done
        until_nothing("nothing of par1 anywhere", partial(remains, vpn, "par1", "10.255.1.12"), within_s=60)
        figure("revoked, to the last router that forgot it", time.monotonic() - began)
        for hub in ("hq1", "res1"):
            until(
                f"{hub}'s bgpd knows par1 no more", partial(is_unlearned, vpn, hub, "par1", "10.255.1.12"), within_s=10
            )


def is_unlearned(vpn: Vpn, hub: str, who: str, overlay: str) -> bool:
    """In seconds, and not when its row would be over in any case."""
    kept = vpn.read(hub, "/var/lib/dmvpn/papers/learned.json")
    return f'"{who}"' not in kept and f"neighbor {overlay} " not in vpn.read(hub, "/run/dmvpn/papers/bgpd.conf")


def told(vpn: Vpn, router: str) -> str:
    return "\n".join(trouble.what for trouble in vpn.status(router).troubles)


def test_it_stays_out_and_the_others_say_why(vpn: Vpn) -> None:
    until("charon refuses it", lambda: "certificate was revoked" in "".join(vpn.logs("hq1").values()), within_s=60)
    assert "refused, its certificate is revoked: par1 (revoked on" in told(vpn, "hq1")
    assert "key-compromise" in told(vpn, "lyo1")
    assert remains(vpn, "par1", "10.255.1.12") == []
    assert vpn.dmvpn("par1", "pki", "renew").status == 1


def test_it_stays_out_when_everything_starts_anew(vpn: Vpn) -> None:
    before = {unit: vpn.kill("hq1", unit) for unit in ("charon", "dmvpnd")}
    for unit, pid in before.items():
        vpn.returned("hq1", unit, pid)
    until("lyo1 is back", lambda: "lyo1" in sas(vpn, "hq1"), within_s=60)
    assert "par1" not in sas(vpn, "hq1")
    logs = "".join(vpn.logs("hq1").values())
    assert "loaded crl" in logs or "crl" in logs


def test_an_older_list_brings_nobody_back(vpn: Vpn) -> None:
    """The newer one, taken at lyo1, is at res1 before anybody brings it there."""
    desk(vpn, "publish", *DESK)
    carry(vpn, "/var/office/pki/crl.pem", "lyo1", "/run")
    assert vpn.dmvpn("lyo1", "pki", "install-crl", "/run/crl.pem").status == 0

    def is_refused() -> bool:
        done = vpn.dmvpn("res1", "pki", "install-crl", "/run/crl.pem")
        return done.status == 2 and b"and this router has" in done.stderr

    until("res1 refuses the one that it took first", is_refused, within_s=30)


def test_new_papers_of_the_authority_let_it_in_again(vpn: Vpn) -> None:
    desk(vpn, "issue", "par1", *DESK)
    install(vpn, "par1")
    until("par1 is back", lambda: "par1" in sas(vpn, "hq1"), within_s=60)
    until_nothing("par1 to be back", partial(vpn.unsettled, "par1"), within_s=60)
    assert "refused" not in told(vpn, "hq1")
