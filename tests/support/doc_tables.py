"""Writes the tables of options and columns into the pages, from the commands and the catalogue.

    python tests/support/doc_tables.py            # after a change to an option or a column
    python tests/support/doc_tables.py --check    # says which pages are out of date, changes nothing

A table stands between two comments in a page:

    <!-- options: angular -->                   every option of a command
    <!-- options: gradnorm, beyond angular -->  those that another command has not, or has otherwise
    <!-- columns: angular -->                   the columns of angular.csv
    <!-- end -->
"""

from __future__ import annotations

import re
import sys
from enum import Enum
from pathlib import Path

import typer

from depthprobe.catalogue import PROBES
from depthprobe.commands.app import app
from depthprobe.docs import columns_table, markdown_table, pages
from depthprobe.training import layer_log

# The stem of a CSV -> its columns.
COLUMNS = {table.stem: table.columns for probe in PROBES.values() for table in probe.tables}
COLUMNS |= {"training": layer_log.LAYER_COLUMNS, "loss": layer_log.LOSS_COLUMNS}

MARKED = re.compile(r"(<!-- (options|columns): ([^>]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(text):
    """Return a page with every table between markers as the program has it today."""
    return MARKED.sub(lambda found: f"{found[1]}{_table(found[2], found[3])}\n{found[5]}", text)


def _table(kind, what):
    if kind == "columns":
        return columns_table(COLUMNS[what])
    name, _, base = what.partition(", beyond ")
    return options_table(name, base or None)


def options_table(name, base=None):
    """Return the Markdown table of a command's options, and where ``base`` is given which ones it shares."""
    commands = typer.main.get_command(app).commands
    known = [described(parameter) for parameter in commands[base].params] if base else []
    own = [described(parameter) for parameter in commands[name].params if not parameter.hidden]
    rows = [row for row in own if row not in known]
    parts = [markdown_table(("option", "meaning", "default"), rows)] if rows else []
    # Short forms such as -o go with the long one.
    shared = [re.sub(r", `-\w`", "", row[0]) for row in own if row in known]
    if shared:
        parts.append(f"As for [{base}]({base}.md#options): {', '.join(shared)}.")
    return "\n\n".join(parts)


def described(parameter):
    """Return an option's names, meaning and default as cells."""
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [(parameter.metavar or parameter.name).strip("[]")]
    return ", ".join(f"`{name}`" for name in names), parameter.help or "", default_of(parameter)


def default_of(parameter):
    """Return the default as the help names it; nothing where there is none to speak of."""
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    default = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    if default is False:
        return "off"
    return "" if default is None or default is Ellipsis else f"`{default}`"


def main(check):
    """Rewrite the pages whose tables are out of date, or only name them; return how many there are."""
    stale = {path: text for path in pages().values() if (text := path.read_text("utf-8")) != filled(text)}
    for path, text in stale.items():
        if not check:
            path.write_text(filled(text), encoding="utf-8", newline="\n")
        print(f"{Path(path).name}: {'out of date' if check else 'written'}")
    return len(stale)


if __name__ == "__main__":
    checking = "--check" in sys.argv[1:]
    outdated = main(checking)
    sys.exit(1 if checking and outdated else 0)
