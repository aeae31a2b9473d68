"""Lines of a text: the one place that says what ends one."""

import re

LINE_END = re.compile(r"\r?\n")


def lines_of(text: str) -> list[str]:
    """The lines, without their ends, which are LF or CRLF; nothing follows the last one.

    `str.splitlines` cuts at eight more characters (U+2028, U+0085, form feed, ...), which captions from the
    web hold within a sentence.
    """
    lines = LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]
