"""Which SAs should be, decided without touching charon: what stands and what is wanted in, orders out.

Rules, each learnt by running it:
- Both ends of a wanted pair initiate from the NAT-T port at every candidate; what answers first wins.
- Two SAs of one pair, made together: the end with the lower transport address ends the one it does not send through,
  so that nothing is lost: what the other end still sends arrives before its word that it has gone. Only if that does
  not happen, the other end acts, by what both see alike. One made long after the other: whoever made it had lost the
  old one, which is ended.
- A charon that died calls back everybody it had an SA with: they would notice only when their DPD is over.
- charon tells its SAs one after the other, and one that is rekeyed meanwhile is not among them: neither the old one,
  which has no children any more, nor the new one. So an SA is gone when two looks say so.
- An IKE SA whose child was refused stays up empty: it is ended, or the next attempt finds it "existing".
- A foreign router initiates as it likes, by its trap policy. Of one that it made and one that we made, ours goes: a
  strongSwan there gives the two different reqids, its policies ask for the trap's, and what we send through ours it
  drops without a word. Two of the same maker are left alone. All else is the same, but that it is called on port 500:
  it may take nothing else.
- Whoever is refused loses its SAs after a grace, each time; only an admitted peer ends our back-off.
- A dead path is cured by terminate and initiate, never by rekeying (charon keeps the dead address).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from dmvpn.daemon.duplicates import SETTLE_S, Duplicates
from dmvpn.daemon.moves import Moves
from dmvpn.daemon.orders import Connect, Disconnect, Down, Order, Remote, Terminate, TerminateNow, Up
from dmvpn.daemon.standing import ALIVE, has_false_ends, standing_peers
from dmvpn.linux.vici_client import IkeSa

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

RETRY_FIRST_S = 3.0
RETRY_LAST_S = 30.0
RETRY_HUB_LAST_S = 10.0  # without its hub a spoke has nothing, and a hub that returns calls nobody
DOUBLINGS_LIMIT = 8
CHILDLESS_S = 5.0  # an IKE SA may be this long without a child while it is being made
RECALL_TRIES = 3  # after 0, 3 and 9 s; by then every peer has missed us, and calls by itself
CANDIDATE_LIMIT = 8
CONFIRMED_S = 0.1  # between the two looks that miss an SA
REFUSED_S = 3.0  # how long a refused SA may stand: the list of certificates may lag behind it


@dataclass(slots=True)
class _Wanted:
    remotes: tuple[Remote, ...]
    tries: int = 0
    next_try: float = 0.0
    since: float = 0.0
    connections: set[str] = field(default_factory=set)


class Security:
    """The pairs this router is one end of. `now` is seconds on one clock throughout."""

    def __init__(self, own: Address, hubs: frozenset[Address] = frozenset(), transport: Network | None = None) -> None:
        """`transport`: where our own routers are. Of SAs with others the other end does not know our rules."""
        self._own = own
        self._transport = transport
        self._hubs = hubs
        self._wanted: dict[Address, _Wanted] = {}
        self._recalled: dict[Address, _Wanted] = {}  # stood when charon died, wanted by the other end alone
        self._began: dict[str, float] = {}  # by unique id: when it was established, on our clock
        self._standing: dict[Address, Up] = {}
        self._missed_since: dict[Address, float] = {}  # peers whose SA the last look did not have
        self._duplicates = Duplicates(own, self._is_ours)
        self._superfluous_since: dict[str, float] = {}  # by unique id: attempts that are needed no more
        self._restarting: set[Address] = set()
        self._ended: set[Address] = set()  # by us: nobody needs to look twice
        self._last_sas: tuple[IkeSa, ...] = ()
        self._refused_since: dict[tuple[Address, str], float] = {}  # by peer and IKE identity, while an SA stands
        self._dying: set[str] = set()  # unique ids that charon was told to end: they count no more
        self._moves = Moves()
        self._beside: dict[Address, set[str]] = {}  # connections to peers that called us, to have them move

    # ------------------------------------------------------------ what is wanted

    def want(self, nbma: Address, remotes: Iterable[Remote], now: float) -> None:
        """A pair is wanted at these candidates. Others than before are tried at once; none leaves the known ones."""
        fresh = tuple(dict.fromkeys(remotes))[:CANDIDATE_LIMIT]
        wanted = self._wanted.get(nbma)
        if wanted is None:
            recalled = self._recalled.pop(nbma, None)
            connections = recalled.connections if recalled is not None else self._beside.pop(nbma, set())
            self._wanted[nbma] = _Wanted(fresh, next_try=now, since=now, connections=connections)
        elif fresh and set(fresh) != set(wanted.remotes):
            wanted.remotes, wanted.tries, wanted.next_try = fresh, 0, now

    def release(self, nbma: Address) -> list[Order]:
        """Nothing needs the pair any more."""
        self._moves.forget(nbma)
        wanted = self._wanted.pop(nbma, None) or self._recalled.pop(nbma, None)
        orders = self._end_all(nbma, "released")
        stem = connection_stem(nbma)
        attempts = [sa.unique_id for sa in self._last_sas if sa.state not in ALIVE and sa.name.startswith(stem)]
        orders += [Terminate(unique_id, "released") for unique_id in attempts]
        names = self._beside.pop(nbma, set()) | (wanted.connections if wanted is not None else set())
        return [*orders, *(Disconnect(name) for name in sorted(names))]

    def restart(self, nbma: Address, now: float) -> list[Order]:
        """The cure for a dead path: end every SA of the pair, and initiate at once if it is ours to start."""
        wanted = self._wanted.get(nbma)
        if wanted is not None:
            wanted.tries, wanted.next_try = 0, now
        self._restarting.add(nbma)
        return self._end_all(nbma, "path dead")

    def leave(self, sources: frozenset[str], now: float) -> list[Order]:
        """An uplink with these addresses is dead: what is over it ends at once and is made anew. Others are let alone.

        A pair that stands again soon was never down: bindings, sessions and shortcuts go on.
        """
        over = [sa for sa in self._last_sas if sa.local_host in sources]
        self._dying |= {sa.unique_id for sa in over}
        left = {nbma for sa in self._last_sas if sa not in over for nbma in self._peers(sa)}
        for nbma in {nbma for sa in over for nbma in self._peers(sa)} - left:
            wanted = self._wanted.get(nbma)
            if wanted is None and nbma in self._standing:
                # The peer wanted it, and does not know yet that we are elsewhere.
                wanted = self._recalled.setdefault(nbma, _Wanted((self._standing[nbma].remote,)))
            if wanted is not None:
                wanted.tries, wanted.next_try = 0, now
            self._moves.leave(nbma, now)
        for nbma, wanted in self._wanted.items():
            if nbma not in self._standing:
                wanted.tries, wanted.next_try = 0, now
        return [TerminateNow(sa.unique_id, "its uplink is dead") for sa in over]

    def prefer(self, nbma: Address, source: str | None, now: float) -> None:
        """The pair should be over the uplink with this address, if it can: that is tried, and the old SA serves."""
        up = self._standing.get(nbma)
        if up is None or source is None or up.source == source or self._moves.is_leaving(nbma):
            self._moves.has_moved(nbma)
            return
        self._moves.prefer(nbma, source, up.remote, now)

    def _end_all(self, nbma: Address, why: str) -> list[Order]:
        orders: list[Order] = [Terminate(sa.unique_id, why) for sa in self._last_sas if nbma in self._peers(sa)]
        self._dying |= {order.unique_id for order in orders if isinstance(order, Terminate)}
        self._ended.add(nbma)
        return orders

    def tried(self, nbma: Address) -> tuple[int, tuple[Remote, ...]]:
        """How often IKE was tried with the peer since it was wanted, and where."""
        wanted = self._wanted.get(nbma)
        return (wanted.tries, wanted.remotes) if wanted else (0, ())

    def standing(self, nbma: Address) -> Up | None:
        return self._standing.get(nbma)

    # ------------------------------------------------------------ who may

    def admit(self, up: Up) -> None:
        """Its claims are known: what was tried so far has led somewhere."""
        self._refused_since.pop((up.nbma, up.remote_id), None)
        wanted = self._wanted.get(up.nbma)
        if wanted is not None:
            wanted.tries = 0

    def is_refused(self, up: Up) -> bool:
        return (up.nbma, up.remote_id) in self._refused_since

    def refuse(self, up: Up, now: float) -> list[Order]:
        """Nobody vouches for it: once that has been so for the grace, all its SAs end. Call it at every look."""
        since = self._refused_since.setdefault((up.nbma, up.remote_id), now)
        if now - since < REFUSED_S:
            return []
        ended = [sa for sa in self._last_sas if sa.remote_id == up.remote_id and up.nbma in self._peers(sa)]
        self._dying |= {sa.unique_id for sa in ended}
        self._ended |= {up.nbma} if ended else set()
        return [TerminateNow(sa.unique_id, f"{up.remote_id} is refused") for sa in ended]

    def end(self, identity: str, why: str) -> list[Order]:
        """All SAs with whoever is known by this identity, at once: nothing that it still says counts."""
        ended = [sa for sa in self._last_sas if sa.remote_id == identity]
        self._dying |= {sa.unique_id for sa in ended}
        self._ended |= {nbma for sa in ended for nbma in self._peers(sa)}
        return [TerminateNow(sa.unique_id, why) for sa in ended]

    def _peers(self, sa: IkeSa) -> set[Address]:
        return standing_peers(sa, self._own, self._transport)

    def _falsely_ended(self) -> list[Order]:
        false = [sa for sa in self._last_sas if has_false_ends(sa, self._own, self._transport)]
        self._dying |= {sa.unique_id for sa in false}
        return [TerminateNow(sa.unique_id, "it is for a transport address, but not from ours") for sa in false]

    # ------------------------------------------------------------ what is

    def lost_charon(self) -> list[Down]:
        """charon is gone: so are all its SAs and connections. Who had one with us is called at the place it was at."""
        downs = [Down(nbma, "charon stopped") for nbma in self._standing]
        for nbma, up in self._standing.items():
            if nbma not in self._wanted and not self.is_refused(up):
                self._recalled[nbma] = _Wanted((up.remote,))
        self._standing.clear()
        self._missed_since.clear()
        self._ended.clear()
        self._began.clear()
        self._duplicates.clear()
        self._superfluous_since.clear()
        self._refused_since.clear()
        self._last_sas = ()
        self._dying.clear()
        self._moves.clear()
        self._beside.clear()
        for wanted in (*self._wanted.values(), *self._recalled.values()):
            wanted.connections.clear()
            wanted.tries, wanted.next_try = 0, 0.0
        return downs

    def observe(self, sas: Iterable[IkeSa], now: float) -> tuple[list[Up], list[Down], list[Order]]:
        """Compare what charon has with what was known. Restarted pairs are reported down even if they are up again."""
        everything = tuple(sas)
        self._dying &= {sa.unique_id for sa in everything}
        self._began = self._beginnings(everything, now)
        self._last_sas = tuple(sa for sa in everything if sa.unique_id not in self._dying)
        by_peer: dict[Address, list[IkeSa]] = {}
        for sa in self._last_sas:
            for nbma in self._peers(sa):
                by_peer.setdefault(nbma, []).append(sa)
        self._moves.settle(set(by_peer), now)
        downs = self._downs(by_peer, now)
        ups = self._ups(by_peer)
        surplus = self._duplicates.surplus(by_peer, self._began, now)
        self._dying |= {sa.unique_id for sa in surplus}
        orders: list[Order] = [Terminate(sa.unique_id, "duplicate") for sa in surplus]
        orders += self._childless()
        orders += self._settled(by_peer, now)
        orders += self._falsely_ended()
        standing = {(nbma, sa.remote_id) for nbma, sas in by_peer.items() for sa in sas}
        self._refused_since = {who: since for who, since in self._refused_since.items() if who in standing}
        hidden = [
            Up(*who, up.remote) for who in self._refused_since if (up := self._standing[who[0]]).remote_id != who[1]
        ]
        orders += [order for up in hidden for order in self.refuse(up, now)]
        orders += self._called_back()
        orders += self._moved()
        return ups, downs, orders

    def _beginnings(self, everything: tuple[IkeSa, ...], now: float) -> dict[str, float]:
        """When each SA was established. A rekeyed one is as old as what it replaces: nobody has lost anything."""
        alive = [sa for sa in everything if sa.state in ALIVE]
        gone = {sa.unique_id for sa in self._last_sas} - {sa.unique_id for sa in alive}
        ended = [old for old in self._last_sas if old.unique_id in gone and old.unique_id in self._began]
        found = {}
        for sa in alive:
            began = self._began.get(sa.unique_id)
            if began is None:
                peers = self._peers(sa)
                replaced = [self._began[old.unique_id] for old in ended if self._peers(old) & peers]
                began = min(replaced, default=now - sa.established_s)
            found[sa.unique_id] = began
        return found

    def due(self, now: float) -> list[Order]:
        """What to initiate now: wanted, not standing, and its back-off over."""
        orders: list[Order] = []
        for nbma, wanted in (self._wanted | self._recalled).items():
            stands = nbma in self._standing and not self._moves.is_leaving(nbma)
            if stands or now < wanted.next_try or not wanted.remotes:
                continue
            doublings = min(wanted.tries, DOUBLINGS_LIMIT)  # or a peer that is away for hours overflows the float
            wanted.tries += 1
            last_s = RETRY_HUB_LAST_S if nbma in self._hubs else RETRY_LAST_S
            wanted.next_try = now + min(RETRY_FIRST_S * 2**doublings, last_s)
            for index, remote in enumerate(wanted.remotes):
                name = connection_name(nbma, index)
                wanted.connections.add(name)
                orders.append(Connect(name, nbma, remote))
        for nbma, remote in self._moves.due(now):
            known = self._wanted.get(nbma)
            remotes = known.remotes if known is not None and known.remotes else (remote,)
            names = {connection_name(nbma, index): one for index, one in enumerate(remotes)}
            (known.connections if known is not None else self._beside.setdefault(nbma, set())).update(names)
            orders += [Connect(name, nbma, one) for name, one in names.items()]
        return orders

    def next_due(self) -> float | None:
        every = (self._wanted | self._recalled).items()
        missing = [
            wanted
            for nbma, wanted in every
            if wanted.remotes and (nbma not in self._standing or self._moves.is_leaving(nbma))
        ]
        times = [wanted.next_try for wanted in missing]
        return min((*times, *([] if (due := self._moves.next_due()) is None else [due])), default=None)

    def _downs(self, by_peer: dict[Address, list[IkeSa]], now: float) -> list[Down]:
        missed = self._standing.keys() - by_peer.keys()
        self._missed_since = {nbma: self._missed_since.get(nbma, now) for nbma in missed}
        sure = [
            nbma
            for nbma, since in self._missed_since.items()
            if now - since >= CONFIRMED_S and not self._moves.is_leaving(nbma)
        ]
        downs = [Down(nbma, "no SA stands") for nbma in self._standing if nbma in {*sure, *(missed & self._ended)}]
        self._ended -= missed
        for nbma in self._restarting & set(self._standing):
            # The SA that was ended must be seen to go, even if its successor is there already.
            if nbma in by_peer:
                downs.append(Down(nbma, "restarted"))
        for down in downs:
            del self._standing[down.nbma]
            self._missed_since.pop(down.nbma, None)
        self._restarting.clear()
        return downs

    def _ups(self, by_peer: dict[Address, list[IkeSa]]) -> list[Up]:
        ups = []
        for nbma, sas in by_peer.items():
            newest = max(sas, key=lambda sa: self._began[sa.unique_id])
            up = Up(nbma, newest.remote_id, Remote(newest.remote_host, newest.remote_port), newest.local_host)
            if self._standing.get(nbma) != up:
                self._standing[nbma] = up
                ups.append(up)
            wanted = self._wanted.get(nbma)
            if wanted is not None:
                # After a restart of dmvpnd nobody has named a candidate: where it stands is where it is tried again.
                wanted.remotes = wanted.remotes or (up.remote,)
        return ups

    def _is_ours(self, nbma: Address) -> bool:
        return self._transport is None or nbma in self._transport

    def _childless(self) -> list[Order]:
        return [
            Terminate(sa.unique_id, "its child was refused")
            for sa in self._last_sas
            if sa.state in ALIVE and not sa.children and sa.established_s > CHILDLESS_S
        ]

    def _settled(self, by_peer: dict[Address, list[IkeSa]], now: float) -> list[Order]:
        """Attempts at other candidates are over once one of them stands.

        Those without an answer at once: a later one would make a duplicate. An attempt whose last answer is on its way
        already stands at the peer, which would send into it: so that may come up, and is a duplicate then.
        """
        superfluous = [sa for sa in self._last_sas if self._is_superfluous(sa, by_peer)]
        self._superfluous_since = {sa.unique_id: self._superfluous_since.get(sa.unique_id, now) for sa in superfluous}
        over = {sa.unique_id for sa in superfluous if not sa.answered}
        over |= {one for one, since in self._superfluous_since.items() if now - since >= SETTLE_S}
        self._dying |= over
        for one in over:
            del self._superfluous_since[one]
        return [Terminate(sa.unique_id, "another candidate answered") for sa in superfluous if sa.unique_id in over]

    def _is_superfluous(self, attempt: IkeSa, by_peer: dict[Address, list[IkeSa]]) -> bool:
        """What the peer started ends our answered one only if that would go as the duplicate: or each might end its."""
        if attempt.state in ALIVE or not attempt.name.startswith("p-"):
            return False
        return any(
            attempt.name.startswith(connection_stem(nbma))
            and not self._moves.is_wanted(nbma, attempt, standing)
            and (
                not attempt.answered
                or not self._is_ours(nbma)
                or int(self._own) > int(nbma)
                or any(one.initiator for one in standing)
            )
            for nbma, standing in by_peer.items()
        )

    def _called_back(self) -> list[Order]:
        """Whoever was called after charon's death and is here again, or was called often enough, is let alone."""
        over = [
            nbma
            for nbma, recalled in self._recalled.items()
            if (nbma in self._standing and not self._moves.is_leaving(nbma)) or recalled.tries >= RECALL_TRIES
        ]
        return [Disconnect(name) for nbma in over for name in sorted(self._recalled.pop(nbma).connections)]

    def _moved(self) -> list[Order]:
        """Of a peer that called us, and has moved or gone, no connection of ours stays in charon."""
        over = [nbma for nbma in self._beside if nbma not in self._standing or not self._moves.is_moving(nbma)]
        return [Disconnect(name) for nbma in over for name in sorted(self._beside.pop(nbma))]

    def next_settle(self) -> float | None:
        """When to look again: two SAs of a pair stand, one is being made beside another, or one is refused."""
        times = self._duplicates.next_due()
        # One that is moving has its own time: looking for it all the while would keep charon from moving the others.
        missed = [since for nbma, since in self._missed_since.items() if not self._moves.is_leaving(nbma)]
        times += [since + CONFIRMED_S for since in missed]
        times += [since + SETTLE_S for since in self._superfluous_since.values()]
        times += [since + REFUSED_S for since in self._refused_since.values()]
        return min(times, default=None)


def connection_stem(nbma: Address) -> str:
    return f"p-{str(nbma).replace('.', '-').replace(':', '-')}-c"


def connection_name(nbma: Address, index: int) -> str:
    return f"{connection_stem(nbma)}{index}"
