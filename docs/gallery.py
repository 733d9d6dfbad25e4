"""Takes the pictures of docs/report.md, of the sample images explained by the bundled net.

python docs/gallery.py

Needs Chromium and playwright, as the tests of the page do.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.report.browser import Viewer, chromium  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
SIZE = (1160, 640)
LOADED = "[...document.images].every((image) => image.complete)"


def main() -> None:
    """Explains the samples for two classes each, and looks at the gallery and at one image."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "gallery"
        command = [sys.executable, "-m", "lrpcli", "explain", "-q", "--target", "top2", "--report"]
        subprocess.run([*command, str(ROOT / "sample_images"), str(output)], check=True, stdout=subprocess.DEVNULL)
        with chromium() as browser:
            take(Viewer(browser, output / "index.html", size=SIZE), "report-gallery.jpg")
            viewer = Viewer(browser, output / "index.html", size=SIZE, scheme="dark", fragment="#image=hedgehog.webp")
            viewer.page.fill("#cut", "50")
            take(viewer, "report-image.jpg")


def take(viewer: Viewer, name: str) -> None:
    """Saves what is on the screen."""
    viewer.wait(LOADED)
    Image.open(io.BytesIO(viewer.page.screenshot())).convert("RGB").save(PICTURES / name, quality=85)


if __name__ == "__main__":
    main()
