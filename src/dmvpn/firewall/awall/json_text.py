"""JSON as RFC 8259 has it, with the place of every value, and what to write where a text is nearly JSON.

What has one obvious meaning is read as that, so that all such places of a file are told at once.
"""

import re

from dmvpn.firewall.awall.document import DEEPEST, MOST_NODES, Member, Node, Place, Report, Unreadable, quoted

_BLANK = re.compile(r"[ \t\r\n]*")
_COMMENT = re.compile(r"(?:#|//)[^\n]*|/\*.*?(?:\*/|$)", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[^\s\[\]{},:=;\"'#]+")
_PLAIN_TEXT = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"true": True, "false": False, "null": None}
_MEANT = {"True": "true", "False": "false", "None": "null", "TRUE": "true", "FALSE": "false", "nil": "null"}
_QUOTES = {"'": "'", "\u201c": "\u201d", "\u201d": "\u201d", "\u2018": "\u2019"}
LONGEST_NUMBER = 20


def read(text: str, file: str, report: Report) -> Node | None:
    """The file's value. None when it cannot be read on; the report says where and why."""
    reader = _Reader(text.removeprefix("\ufeff"), file, report)
    try:
        return reader.whole()
    except Unreadable:
        return None


class _Reader:
    def __init__(self, text: str, file: str, report: Report) -> None:
        self.text = text
        self.file = file
        self.report = report
        self.at = 0
        self.nodes = 0
        self.line = 1
        self.line_start = 0
        self.counted = 0

    def whole(self) -> Node:
        self._skip()
        if self.at == len(self.text):
            self._stop("the file is empty", "write {} for a policy that says nothing")
        node = self._value(0)
        self._skip()
        if self.at < len(self.text):
            self._stop(
                "the text goes on behind the policy's end", "remove what follows, or the closing bracket before it"
            )
        return node

    def _place(self) -> Place:
        # Places are asked for in the text's order, so that lines are counted once.
        breaks = self.text.count("\n", self.counted, self.at)
        if breaks:
            self.line += breaks
            self.line_start = self.text.rfind("\n", 0, self.at) + 1
        self.counted = self.at
        return Place(self.file, self.line, self.at - self.line_start + 1)

    def _stop(self, what: str, fix: str) -> None:
        self.report.wrong(self._place(), what, fix)
        raise Unreadable

    def _skip(self) -> None:
        while True:
            blank = _BLANK.match(self.text, self.at)
            self.at = blank.end() if blank else self.at
            comment = _COMMENT.match(self.text, self.at)
            if comment is None:
                return
            self.report.wrong(self._place(), "JSON has no comments", "remove it, or write it as a description")
            self.at = comment.end()

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _value(self, depth: int) -> Node:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            self._stop(f"more than {MOST_NODES} values", "split the policy")
        if depth > DEEPEST:
            self._stop(f"more than {DEEPEST} levels deep", "a policy needs six")
        here = self._place()
        match self._peek():
            case "{":
                return Node(here, self._object(depth, here))
            case "[":
                return Node(here, self._list(depth, here))
            case '"':
                return Node(here, self._string())
            case "":
                self._stop("the file ends where a value is expected", "write the value, or remove the comma or colon")
            case quote if quote in _QUOTES:
                return Node(here, self._other_quotes(quote))
        return Node(here, self._plain(here))

    def _plain(self, here: Place) -> str | int | float | bool | None:
        word = _WORD.match(self.text, self.at)
        if word is None:
            self._stop(f"{quoted(self._peek())} is here where a value is expected", "write a value, or remove it")
            raise Unreadable
        said = word[0]
        number = _NUMBER.fullmatch(said)
        self.at = word.end()
        if number is not None and len(said) <= LONGEST_NUMBER:
            return float(said) if number[1] or number[2] else int(said)
        if said in _WORDS:
            return _WORDS[said]
        if said in _MEANT:
            self.report.wrong(here, f"{said} is no word of JSON", f"write {_MEANT[said]}")
            return _WORDS[_MEANT[said]]
        if re.fullmatch(r"[-+.0-9][-+.0-9a-fA-FxXeE]*", said):
            self.report.wrong(
                here, f"{quoted(said)} is no number of JSON", "write it in decimal, without + or a leading 0"
            )
            return 0
        self.report.wrong(here, f"{quoted(said)} stands without quotes", f'write "{said[:60]}"')
        return said

    def _string(self) -> str:
        here = self._place()
        self.at += 1
        parts: list[str] = []
        while True:
            plain = _PLAIN_TEXT.match(self.text, self.at)
            parts.append(plain[0] if plain else "")
            self.at += len(parts[-1])
            match self._peek():
                case '"':
                    self.at += 1
                    return "".join(parts)
                case "\\":
                    parts.append(self._escape())
                case "\t":
                    self._stop("a tab stands in a string", "write \\t")
                case char if char in ("", "\n", "\r"):
                    self.report.wrong(here, "the string that begins here does not end on its line", 'close it with "')
                    raise Unreadable
                case char:
                    self._stop(f"the character U+{ord(char):04X} stands in a string", "remove it")

    def _escape(self) -> str:
        char = self.text[self.at + 1 : self.at + 2]
        if char in _ESCAPES:
            self.at += 2
            return _ESCAPES[char]
        digits = re.compile(r"\\u([0-9a-fA-F]{4})").match(self.text, self.at)
        if digits is None:
            self._stop(f"{quoted(chr(92) + char)} is no escape of JSON", "write \\\\ for a backslash")
            raise Unreadable
        first = int(digits[1], 16)
        pair = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE).match(self.text, self.at)
        if pair is not None:
            self.at = pair.end()
            return chr(0x10000 + ((int(pair[1], 16) & 0x3FF) << 10) + (int(pair[2], 16) & 0x3FF))
        if 0xD800 <= first <= 0xDFFF:
            self._stop("half of a surrogate pair", "write the character itself")
        self.at = digits.end()
        return chr(first)

    def _other_quotes(self, quote: str) -> str:
        here = self._place()
        end = self.text.find(_QUOTES[quote], self.at + 1)
        line_end = self.text.find("\n", self.at)
        if end < 0 or 0 <= line_end < end:
            self._stop(f"{quote} begins no string of JSON", 'write "')
        said = self.text[self.at + 1 : end]
        self.at = end + 1
        self.report.wrong(here, f"{quote} begins no string of JSON", f'write "{said[:60]}"')
        return said

    def _list(self, depth: int, opened: Place) -> tuple[Node, ...]:
        self.at += 1
        found: list[Node] = []
        self._skip()
        while not self._closed("]", "}", opened):
            found.append(self._value(depth + 1))
            self._comma("]", "}")
        return tuple(found)

    def _object(self, depth: int, opened: Place) -> dict[str, Member]:
        self.at += 1
        members: dict[str, Member] = {}
        self._skip()
        while not self._closed("}", "]", opened):
            here = self._place()
            name = self._name(here)
            self._colon(name)
            value = self._value(depth + 1)
            if name in members:
                fix = f"remove one of them; the other is on line {members[name].at.line}"
                self.report.wrong(here, f"{quoted(name)} is here twice", fix)
            members[name] = Member(here, value)
            self._comma("}", "]")
        return members

    def _name(self, here: Place) -> str:
        match self._peek():
            case '"':
                return self._string()
            case quote if quote in _QUOTES:
                return self._other_quotes(quote)
        word = _WORD.match(self.text, self.at)
        if word is None:
            self._stop(
                f"{quoted(self._peek())} is here where a name in quotes is expected", "write a name, or remove it"
            )
            raise Unreadable
        self.at = word.end()
        self.report.wrong(here, f"the name {quoted(word[0])} stands without quotes", f'write "{word[0][:60]}"')
        return word[0]

    def _colon(self, name: str) -> None:
        self._skip()
        sign = re.compile(r":=|=>|=|").match(self.text, self.at)
        said = sign[0] if sign else ""
        if said:
            self.report.wrong(self._place(), f"{quoted(name)} {said} ... is not JSON", f"write ':' instead of '{said}'")
            self.at += len(said)
        elif self._peek() == ":":
            self.at += 1
        else:
            self._stop(f"no ':' follows the name {quoted(name)}", "write ':' and its value")
        self._skip()

    def _comma(self, close: str, other: str) -> None:
        """Between two values; a missing one is told and read over."""
        self._skip()
        char = self._peek()
        if char in (close, other, ""):
            return
        if char == ",":
            comma = self._place()
            self.at += 1
            self._skip()
            if self._peek() == close:
                self.report.wrong(comma, f"a comma stands before the closing {close}", "remove it")
            return
        here = self._place()
        if char == ";":
            self.at += 1
            self.report.wrong(here, "';' separates nothing in JSON", "write ','")
            self._skip()
            return
        if char in ":=":
            self._stop(
                f"'{char}' is here where ',' or '{close}' is expected", "look at the quotes and brackets before it"
            )
        self.report.wrong(here, "no ',' stands before this", "write ',' behind the value before it")

    def _closed(self, close: str, other: str, opened: Place) -> bool:
        match self._peek():
            case char if char == close:
                self.at += 1
                return True
            case "":
                self._stop(
                    f"the file ends before the bracket of {opened.line}:{opened.column} is closed", f"write '{close}'"
                )
            case char if char == other:
                self._stop(f"'{other}' closes the bracket of {opened.line}:{opened.column}", f"write '{close}'")
        return False
