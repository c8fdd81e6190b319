"""Prints every lower bound of a pyproject.toml's dependencies and of what its users may add as pip constraints."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
wanted = list(project["dependencies"])
for name, extra in project["optional-dependencies"].items():
    wanted += extra if name != "test" else []
for requirement in wanted:
    name, version = re.fullmatch(r"([\w.-]+)(?:\[.*\])?>=([\d.]+)(?:,.*)?", requirement).groups()
    print(f"{name}=={version}")
