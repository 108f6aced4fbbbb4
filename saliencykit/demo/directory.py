"""Where the files of the embedded default are: two `.safetensors`, `classifier.json`, `card.md`."""

from pathlib import Path

DEMO_DIR = Path(__file__).parent
