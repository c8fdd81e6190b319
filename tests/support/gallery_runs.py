"""The gallery's runs under other names, and a reader of the pages that are made from them."""

import hashlib
import shutil
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

from support.edits import edit_manifest

GALLERY = Path(__file__).parents[2] / "reports" / "gallery" / "builtin--pre-ln"
PROBES = ("angular", "variance", "gradnorm", "prune-sweep-stdlib_mc")
VOID = {"meta", "br", "img", "link", "input", "hr"}


def copied(target, model=None, dataset=None, task=None, probes=PROBES):
    """The directory of the gallery's runs, as if they were of this model, on this data, of this task."""
    for probe in probes:
        shutil.copytree(GALLERY / probe, target / probe)
        edit_manifest(target / probe, partial(_rename, target / probe, model, dataset, task))
    return target


def _rename(run, model, dataset, task, manifest):
    if model is not None:
        manifest["model"]["id"] = model
    if dataset is not None:
        manifest["data"]["dataset"] = dataset
    if task is not None and run.name.startswith("prune-sweep"):
        _rename_task(run / "prune_sweep.csv", manifest, task)


def _rename_task(path, manifest, task):
    quoted = '"' + task.replace('"', '""') + '"'
    content = path.read_text(encoding="utf-8").replace("stdlib_mc,", f"{quoted},")
    path.write_text(content, encoding="utf-8", newline="")
    manifest["files"]["prune_sweep"]["sha256"] = hashlib.sha256(content.encode()).hexdigest()
    options = manifest["options"]
    options["tasks"] = [task]
    for name in ("headline", "chance", "higher_is_better", "detectable"):
        options[name] = {
            key.replace("stdlib_mc", task): value for key, value in options.get(name, {}).items()
        }


class Page(HTMLParser):
    """What a parser finds in a page: elements with their attributes, text, and whether all is closed."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts, self.inside = [], [], [], {}
        self.feed(content)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open:
            self.inside.setdefault(self.open[-1], []).append(data)

    def of(self, tag):
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]
