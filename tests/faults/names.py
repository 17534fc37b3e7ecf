"""Sixty names that bite: what a catalog may call a collection, an item or an asset. Used by the tests of names."""

from __future__ import annotations

NAMES = [
    # out of the folder
    "..", ".", "../../etc/x", "../../../../../../../../tmp/x", "/etc/passwd", "//etc/x", "a/../../x", "a/..", "./x",
    "half-moon-bay/video-2018-01-01-0001", "a//b", "/", "..\\..\\x", "back\\slash", "C:\\x", "C:x", "\\\\host\\share",
    "file:///etc/x", "~root", "~", "$HOME", "`id`", "%2e%2e%2fx", "..%2Fx", "%00", "%2F", "..;/x",
    # no name anywhere
    "nul\0byte", "line\nbreak", "cr\rhere", "tab\there", "\x1b[31mred\x1b[0m", "\x7f", "\x85", "\u2028", "x" * 300,
    "\u00e4" * 150, "\U0001f30d" * 70, " ", "blank ", " blank", "dot.", "dots...", ".hidden",
    # names that mean something
    "-rf", "--help", "CON", "con.tif", "LPT9.txt", ".stacmirror", "collection.json", "CITATION.TXT",
    # twins
    "Case", "case", "\u00e9", "e\u0301", "stra\u00dfe", "STRASSE",
    # for the eye
    "\u202egpj.exe", "[bold red]x[/]",
]  # fmt: skip
