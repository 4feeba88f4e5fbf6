"""Where this checkout lies."""

from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
