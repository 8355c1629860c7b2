"""What a cell of a table means where nothing is known: the same words in imports and in questions."""

from __future__ import annotations

#: What stands for a missing number; pandas writes and reads most of these so.
MISSING_NUMBERS = (
    *("", "?", "NA", "N/A", "n/a", "<NA>", "#NA", "#N/A", "#N/A N/A", "null", "NULL", "None"),
    *("nan", "NaN", "-nan", "-NaN", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
#: What stands for a missing category; other words may be names.
MISSING_NAMES = ("", "?", "NA")
