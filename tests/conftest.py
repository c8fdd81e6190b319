"""Two workers share the cores (``-n 2`` in pyproject.toml), so each of them computes on one."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
