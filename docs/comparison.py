"""Draws the picture of docs/compare.md, by `lrp compare` itself.

python docs/comparison.py
"""

import tempfile
from pathlib import Path

from click.testing import CliRunner
from PIL import Image

from lrpcli.cli import main

PICTURES = Path(__file__).parent / "pictures"
SAMPLES = Path(__file__).parents[1] / "sample_images"
CONFIGS = ("composite", "epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box")
WIDTH = 1200


def comparison() -> None:
    """compare.jpg: four configs on three photos."""
    photos = [str(SAMPLES / name) for name in ("chelsea_cat.jpg", "hedgehog.webp", "dog.webp")]
    configs = [word for config in CONFIGS for word in ("--config", config)]
    with tempfile.TemporaryDirectory() as folder:
        done = CliRunner().invoke(main, ["compare", *photos, "-o", folder, *configs])
        assert done.exit_code == 0, done.output
        with Image.open(Path(folder) / "sheet.png") as page:
            height = round(page.height * WIDTH / page.width)
            page.resize((WIDTH, height), Image.Resampling.LANCZOS).save(PICTURES / "compare.jpg", quality=85)


if __name__ == "__main__":
    comparison()
