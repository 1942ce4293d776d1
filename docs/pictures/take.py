"""Take the picture of a report that the README shows.

python docs/pictures/take.py results/atlas-hi/report.html
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Write the top of the page as a PNG beside this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("report.png"))
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1900)
    parser.add_argument("--dark", action="store_true", help="as a reader with a dark screen sees it")
    arguments = parser.parse_args()
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"no browser: install one of {', '.join(BROWSERS)}.")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                *(["--blink-settings=preferredColorScheme=0"] if arguments.dark else []),
                f"--user-data-dir={profile}", f"--window-size={arguments.width},{arguments.height}",
                f"--screenshot={arguments.output.resolve()}", arguments.page.resolve().as_uri(),
            ],
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
