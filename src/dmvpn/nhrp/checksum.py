"""The Internet checksum over one packet. RFC 1071; RFC 2332 5.1."""


def checksum(octets: bytes) -> int:
    """One's complement of the one's complement sum; 0 over a packet whose own checksum is right.

    An odd number of octets counts as if a zero octet followed.
    """
    padded = octets + b"\0" if len(octets) % 2 else octets
    # 2**16 is 1 modulo 0xFFFF, so one division folds all carries. Zero has two forms in one's complement: only a sum
    # over nothing but zero octets is the positive one.
    whole = int.from_bytes(padded, "big")
    folded = whole % 0xFFFF
    if folded == 0 and whole:
        folded = 0xFFFF
    return 0xFFFF - folded
