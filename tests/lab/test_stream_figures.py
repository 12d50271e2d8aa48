"""The figures of a stretch of a stream, from its packets."""

from dmvpn.lab.stream import Figures, Packet


def packet(sequence: int, rtt_s: float | None, there: int = 2, back: int = 2) -> Packet:
    sent = 100.0 + sequence * 0.01
    return Packet(sequence, sent, None if rtt_s is None else sent + rtt_s, there, back)


def test_a_switch_from_relayed_to_direct_is_seen_in_every_figure() -> None:
    packets = [packet(0, None), packet(1, 0.06, 3, 3), packet(2, 0.06, 3, 3), packet(3, 0.05, 2, 3), packet(4, 0.03)]
    figures = Figures.of(packets)
    assert (figures.sent, figures.received, figures.lost) == (5, 4, (0,))
    assert (figures.relayed, figures.direct) == (2, 1)
    assert figures.relayed_rtt_ms is not None
    assert round(figures.relayed_rtt_ms) == 60
    assert figures.direct_rtt_ms is not None
    assert round(figures.direct_rtt_ms) == 30
    assert figures.first_direct_s is not None
    assert round(figures.first_direct_s, 3) == 0.07


def test_a_gap_counts_from_reply_to_reply_and_to_both_ends() -> None:
    silence_at_the_end = [packet(0, 0.03), *(packet(number, None) for number in range(1, 11))]
    assert round(Figures.of(silence_at_the_end).longest_gap_s, 3) == 0.1
    silence_inside = [packet(0, 0.03), packet(50, 0.03), packet(51, 0.03)]
    assert round(Figures.of(silence_inside).longest_gap_s, 3) == 0.5


def test_an_empty_stretch_has_no_figures() -> None:
    figures = Figures.of([])
    assert (figures.sent, figures.rtt_ms, figures.first_direct_s, figures.longest_gap_s) == (0, None, None, 0.0)
