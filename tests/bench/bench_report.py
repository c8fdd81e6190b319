"""What ``report RUN_DIR`` costs beside the imports that it cannot do without, as whole processes in turn.

    python tests/bench/bench_report.py
    python tests/bench/bench_report.py --repeats 9 path/to/runs

* imports: a process that imports pandas and what matplotlib needs for the three kinds of figure files;
* report: as a user runs it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GALLERY = Path(__file__).parents[2] / "reports" / "gallery" / "builtin--pre-ln"
IMPORTS = (
    "import gc; gc.disable(); import pandas, matplotlib.figure; "
    "from matplotlib.backends import backend_agg, backend_pdf, backend_svg"
)


def seconds(arguments: list[str]) -> float:
    """How long one process takes, from its start to its end."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="?", type=Path, default=GALLERY)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = ["-m", "depthprobe", "report", str(options.runs), "-o", folder, "--quiet"]
        ways = {
            "imports": ["-c", IMPORTS],
            "report": report,
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        # The first round warms the disk's cache; then in turn, so that a slow minute meets all alike.
        for turn in range(options.repeats + 1):
            for name, way in ways.items():
                spent = seconds(way)
                if turn:
                    taken[name].append(spent)
        figures = len(list(Path(folder).rglob("*.pdf")))
    middle = {name: statistics.median(times) for name, times in taken.items()}
    print(f"{figures} figures in three formats, median of {options.repeats}")
    for name, value in middle.items():
        spread = f"{min(taken[name]):.2f} to {max(taken[name]):.2f}"
        print(f"{name:9} {value:5.2f} s ({spread})  {value / middle['imports']:4.1f} x the imports")


if __name__ == "__main__":
    main()
