"""What to write instead of a word that nobody knows."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_NAMED = 12


def instead(word: str, known: Iterable[str]) -> str:
    """The word that was meant, if one is near; otherwise those there are."""
    names = sorted(set(known))
    near = get_close_matches(word[:100], names, n=1, cutoff=0.65)
    if near:
        return f'write "{near[0]}"'
    if not names:
        return ""
    more = ", ..." if len(names) > MOST_NAMED else ""
    return f"known: {', '.join(names[:MOST_NAMED])}{more}"


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"
