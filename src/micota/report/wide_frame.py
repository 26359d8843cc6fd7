"""A frame that prints all of its columns, in blocks as wide as the terminal."""

from __future__ import annotations

from shutil import get_terminal_size

import pandas as pd


class WideFrame(pd.DataFrame):  # type: ignore[misc]
    """A pandas frame of few rows; what is taken of it is a plain frame."""

    def __repr__(self) -> str:
        return str(self.to_string(index=False, line_width=get_terminal_size().columns))
