"""Visible text: names and messages from elsewhere, as characters that do nothing."""

import unicodedata

_LONGEST = 300  # characters of a foreign message
_JOINERS = "\u200c\u200d"  # parts of words in some scripts, and of emoji
_FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def visible(text: str) -> str:
    r"""Text without characters that act rather than show.

    Control characters, escape sequences, line breaks, changes of the writing direction, and bytes
    of a file name that are not UTF-8 are written as escapes.

    Example:
        >>> visible("caf\u00e9 \x1b[31m\u202egnp.exe\n")
        'café \\x1b[31m\\u202egnp.exe\\n'
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and character not in _JOINERS
        else character
        for character in text
    )


def unicode_text(text: str) -> str:
    r"""Text that every file can hold: a file name's bytes outside UTF-8 are written as escapes.

    Example:
        >>> import os
        >>> unicode_text(os.fsdecode(b"caf\xe9.png"))
        'caf\\udce9.png'
    """
    return text.encode(errors="backslashreplace").decode()


def csv_cell(value: object) -> object:
    r"""A cell for spreadsheets: a text is visible, and not run as a formula.

    Args:
        value: A text; anything else stays as it is.

    Example:
        >>> csv_cell("=1+2"), csv_cell("a\tb"), csv_cell(-0.5)
        ("'=1+2", 'a\\tb', -0.5)

    References:
        OWASP, "CSV Injection".
    """
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULAS) else text


def first_line(error: BaseException) -> str:
    r"""The first line of a foreign exception, which may fill pages, for a message of ours.

    Args:
        error: The exception.

    Returns:
        At most 300 characters, without a full stop; `no message` if there is none.

    Example:
        >>> first_line(ValueError("mat1 and mat2 differ.\nSee the manual."))
        'mat1 and mat2 differ'
    """
    return (str(error).strip().splitlines() or ["no message"])[0][:_LONGEST].rstrip(". ")
