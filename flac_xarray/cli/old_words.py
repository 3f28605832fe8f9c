"""What users of flac-raster 0.1.2 type: its commands' names, as words of ours.

Strategy: a name that is not a command's is replaced, with the options that make ours do
what the old one did, before click looks it up; the user's own options come behind and
win. Old options are hidden names of the new ones, where those are.
"""

from __future__ import annotations

from typing import Final

__all__ = ["OLD_COMMANDS", "renamed"]

OLD_COMMANDS: Final = {
    "create-streaming": ("convert", "--tile-size", "1024"),
    "extract-streaming": ("extract",),
    "extract-tile": ("extract", "--snap", "tiles"),
}
"""Old name -> ours, and options."""


def renamed(words: list[str]) -> list[str]:
    """Give a command line in the new words.

    Examples
    --------
    >>> renamed(["extract-tile", "a.flac", "--bbox=0,0,1,1"])
    ['extract', '--snap', 'tiles', 'a.flac', '--bbox=0,0,1,1']
    """
    if words and words[0] in OLD_COMMANDS:
        return [*OLD_COMMANDS[words[0]], *words[1:]]
    return words
