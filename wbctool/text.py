"""Words and names as text for the user."""

from __future__ import annotations

import re


def pluralize(count: int, noun: str) -> str:
    """Return a number with its noun, which takes an s in the plural.

    >>> pluralize(1, "slide"), pluralize(0, "cell")
    ('1 slide', '0 cells')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def replace_underscores(name: str) -> str:
    """Return the name of a class or a quantity as words."""
    return name.replace("_", " ")


_DIGITS = re.compile(r"([0-9]+)")


def natural_sort_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key by which numbers in names sort by value, and letters without regard to case.

    >>> sorted(["field10.png", "Field2.png", "field1.png"], key=natural_sort_key)
    ['field1.png', 'Field2.png', 'field10.png']
    """
    parts = _DIGITS.split(name.casefold())
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts) if part], name


_LOOKS_ESCAPED = re.compile(r"\\+(?=x[89a-f][0-9a-f]|[\udc80-\udcff])")
_SURROGATE = re.compile(r"[\udc80-\udcff]")
_ESCAPED_BYTE = re.compile(r"(\\+)x([89a-f][0-9a-f])")


def encode_name(name: str) -> str:
    r"""Encode a name from the file system as text that UTF-8 can hold, one to one.

    A byte that is not UTF-8 becomes ``\xff``; a backslash is doubled if it would look like such a byte.

    >>> print(encode_name("smear\udcff"), encode_name(r"smear\xff"), encode_name(r"a\b"))
    smear\xff smear\\xff a\b
    """
    doubled = _LOOKS_ESCAPED.sub(lambda match: match.group() * 2, name)
    return _SURROGATE.sub(lambda match: f"\\x{ord(match.group()) - 0xDC00:02x}", doubled)


def decode_name(text: str) -> str:
    r"""Return the name that :func:`encode_name` encoded as ``text``.

    >>> [decode_name(text) for text in (r"smear\xff", r"smear\\xff", r"a\b")]
    ['smear\udcff', 'smear\\xff', 'a\\b']
    """

    def unescape(match: re.Match[str]) -> str:
        """Turn one escaped byte back."""
        backslashes, byte = match.groups()
        half = "\\" * (len(backslashes) // 2)
        return half + (chr(0xDC00 + int(byte, 16)) if len(backslashes) % 2 else f"x{byte}")

    return _ESCAPED_BYTE.sub(unescape, text)


def display_name(name: str) -> str:
    r"""Return a name as one line of text for a person, with visible control characters.

    >>> print(display_name("a\nb"))
    a\nb
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in encode_name(name))
