"""What holds for all tests: a core each, a cache of their own, and failures of helpers told in full."""

import atexit
import os
import shutil
import tempfile

import pytest

pytest.register_assert_rewrite("support")  # what fails there is told as in a test

# Two workers share the cores (``-n 2`` in pyproject.toml).
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What runs find out about a model is kept in the user's cache; tests have one of their own.
os.environ["DEPTHPROBE_CACHE"] = tempfile.mkdtemp(prefix="depthprobe-tests-")
atexit.register(shutil.rmtree, os.environ["DEPTHPROBE_CACHE"], ignore_errors=True)
