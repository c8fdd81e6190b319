"""The page in a real browser: nothing goes wrong, nothing leaves it, tables sort, and dark is dark."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from depthprobe.findings.study import read_study
from depthprobe.render.report.write import write_report
from support.gallery_runs import GALLERY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "report"
    write_report(read_study([GALLERY]), folder)
    return folder / "report.html"


def browse(page, tmp_path, *options, script=None):
    """What the browser wrote on stderr and stdout; with a script, on a copy of the page that also runs it."""
    if script is not None:
        content = page.read_text(encoding="utf-8")
        start, end = content.index('<meta http-equiv="Content'), content.index('<meta name="viewport"')
        # The policy would refuse a test's script, as it should.
        content = content[:start] + content[end:].replace("</body>", f"<script>{script}</script></body>")
        page = tmp_path / "with_script.html"
        page.write_text(content, encoding="utf-8")
    return subprocess.run(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--virtual-time-budget=3000",
            *options,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )


def shot(page, tmp_path, *options):
    path = tmp_path / "shot.png"
    done = browse(page, tmp_path, f"--screenshot={path}", "--window-size=1200,2400", *options)
    assert path.exists(), done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr
    return np.asarray(Image.open(path).convert("L"), dtype=float)


def test_the_page_has_no_console_message_and_asks_for_nothing_but_itself(page, tmp_path):
    log = tmp_path / "net.json"
    picture = shot(page, tmp_path, f"--log-net-log={log}", "--net-log-capture-mode=Everything")
    assert picture.std() > 10  # something is on it
    text = log.read_text(encoding="utf-8")
    try:
        events = json.loads(text)["events"]
    except json.JSONDecodeError:  # the browser may end before it closes its log
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    asked = {event["params"]["url"] for event in events if "url" in (event.get("params") or {})}
    ours = {url for url in asked if "report" in url or url.startswith("file:")}
    # What the browser asks for itself (its components, its time) is not the page's; its initiator says so.
    initiated = {
        event["params"]["url"]
        for event in events
        if "file://" in str((event.get("params") or {}).get("initiator", "")) and "url" in event["params"]
    }
    assert initiated <= {page.as_uri()} and all(url.startswith("file:") for url in ours)


def test_the_policy_is_in_force_a_script_of_somebody_elses_does_not_run(page, tmp_path):
    other = tmp_path / "injected.html"
    content = page.read_text(encoding="utf-8")
    injected = "<script>document.title='taken'</script><img src='http://example.org/x.png'></body>"
    other.write_text(content.replace("</body>", injected), encoding="utf-8")
    done = browse(other, tmp_path, "--dump-dom")
    assert "<title>taken" not in done.stdout
    assert done.stderr.count("Content Security Policy") >= 2


def test_a_dark_page_is_dark_around_figures_that_stay_light(page, tmp_path):
    light = shot(page, tmp_path)
    dark = shot(page, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert np.median(light) > 245 and np.median(dark) < 60
    assert (dark > 245).mean() > 0.05  # the figures' paper


def test_a_narrow_window_needs_no_scrolling_to_the_side(page, tmp_path):
    script = "document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
    done = browse(page, tmp_path, "--dump-dom", "--window-size=520,900", script=script)
    wide, _, inner = done.stdout.partition("<title>")[2].partition("</title>")[0].partition(" of ")
    assert int(wide) <= int(inner)


def test_a_table_sorts_by_its_numbers_and_says_so(page, tmp_path):
    script = """
    const table = document.getElementById("table-drops-stdlib_mc").nextElementSibling.querySelector("table");
    const drop = table.querySelectorAll("thead th")[3];
    const first = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join(",");
    drop.querySelector("button").click();
    const said = [drop.getAttribute("aria-sort"), first()];
    drop.querySelector("button").click();
    said.push(drop.getAttribute("aria-sort"), first());
    document.title = said.join(" ");
    """
    done = browse(page, tmp_path, "--dump-dom", script=script)
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    drops = pd.read_csv(page.parent / "tables" / "drops-stdlib_mc.csv").set_index("layer")["drop"]
    upward, first, downward, second = title.split()
    assert (upward, downward) == ("ascending", "descending")
    for layers, rising in ((first, True), (second, False)):
        order = [int(layer) for layer in layers.split(",")]
        assert sorted(order) == sorted(drops.index) and order != sorted(order)
        found = drops[order]
        assert found.is_monotonic_increasing if rising else found.is_monotonic_decreasing


def test_the_page_prints_with_all_its_tables(page, tmp_path):
    path = tmp_path / "page.pdf"
    browse(page, tmp_path, f"--print-to-pdf={path}", "--no-pdf-header-footer")
    assert path.stat().st_size > 50_000
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext here")
    text = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True)
    pages = [[" ".join(line.split()) for line in page.splitlines()] for page in text.stdout.split("\f")]
    head = "layer whole model without drop 95% from 95% to p (Holm) flips items detectable"
    # A table that goes on over the page says again what its columns are.
    assert sum(head in page for page in pages) >= 1
    for page in pages:
        rows = [line for line in page if re.fullmatch(r"\d+ 0\.538 .* 600 (yes|no)", line)]
        assert (head in page) == bool(rows)
