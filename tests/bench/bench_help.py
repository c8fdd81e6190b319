"""CPU time of every command's help beside that of ``import typer, rich``, the least of several starts.

Run: python tests/bench/bench_help.py
"""

import resource
import subprocess
import sys

from depthprobe.catalogue import PROBES

COMMANDS = [*PROBES, "compare", "report", "inspect", "convert", "plot", "pretrain", "docs"]


def cpu_s(*words, starts=7):
    """The least CPU seconds of a Python process among some starts."""
    least = float("inf")
    for _ in range(starts):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        least = min(least, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return least


def main():
    floor = cpu_s("-c", "import typer, rich")
    print(f"import typer, rich: {floor:.3f} s CPU")
    for words in ([], *([name] for name in COMMANDS)):
        needed = cpu_s("-m", "depthprobe", *words, "--help")
        print(f"depthprobe {' '.join([*words, '--help'])}: {needed:.3f} s, {needed / floor:.2f} times")


if __name__ == "__main__":
    main()
