"""Where things live on a router: one place that spells the paths. FHS 3.0; everything carries the network's name."""

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one network's router. `etc/current` is a symlink to the revision in force."""

    network: str

    @property
    def etc(self) -> PurePosixPath:
        return PurePosixPath("/etc/dmvpn") / self.network

    @property
    def current(self) -> PurePosixPath:
        return self.etc / "current"

    @property
    def network_file(self) -> PurePosixPath:
        return self.etc / "network.yaml"

    @property
    def pki(self) -> PurePosixPath:
        """ca.pem, router.pem, router.key (0600) and, under swanctl/, the directory charon's loader reads."""
        return self.etc / "pki"

    @property
    def swanctl_dir(self) -> PurePosixPath:
        """SWANCTL_DIR: x509/, x509ca/, private/ as swanctl(8) reads them."""
        return self.pki / "swanctl"

    @property
    def state(self) -> PurePosixPath:
        """Revisions, and what dmvpnd must remember over a reboot (request ids)."""
        return PurePosixPath("/var/lib/dmvpn") / self.network

    @property
    def revisions(self) -> PurePosixPath:
        return self.state / "revisions"

    @property
    def run(self) -> PurePosixPath:
        return PurePosixPath("/run/dmvpn") / self.network

    @property
    def bgpd_file(self) -> PurePosixPath:
        """What a hub's bgpd was brought to: the file in force and what dmvpnd has learned."""
        return self.run / "bgpd.conf"

    @property
    def learned(self) -> PurePosixPath:
        """What dmvpnd knows of spokes by their certificates."""
        return self.state / "learned.json"

    @property
    def adopted(self) -> PurePosixPath:
        """What services of the host's own were before they made room for ours."""
        return self.state / "adopted.json"

    @property
    def charon_run(self) -> PurePosixPath:
        """charon's private /run."""
        return self.run / "charon"

    @property
    def vici_socket(self) -> PurePosixPath:
        return self.charon_run / "charon.vici"

    @property
    def frr_run(self) -> PurePosixPath:
        return self.run / "frr"

    @property
    def gateway_track(self) -> PurePosixPath:
        """How much less than its priority this router offers for the site's gateways: a number."""
        return self.run / "gateway.track"

    @property
    def gre_socket(self) -> PurePosixPath:
        return self.run / "gre.sock"

    @property
    def control_socket(self) -> PurePosixPath:
        return self.run / "control.sock"

    @property
    def reading_socket(self) -> PurePosixPath:
        return self.run / "read.sock"
