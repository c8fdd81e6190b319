import errno
import io
import os
import re
import subprocess
import sys
import zlib

import pytest
from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib.figure import Figure
from PIL import Image

from depthprobe.errors import MachineError, OptionError, RunError
from depthprobe.findings.captions import model_title
from depthprobe.render.charts.figures import draw_run, figure_of
from depthprobe.render.charts.kit.encoding import render_bytes
from depthprobe.render.charts.kit.page_sizes import drawn_for
from depthprobe.render.charts.kit.style import FONT
from depthprobe.results.store import read_run


def test_a_run_gets_its_figures_beside_its_table(make_run):
    run = make_run()
    paths = draw_run(run)
    assert [path.name for path in paths] == ["angular.png", "angular.pdf"]
    assert all(path.parent == run.directory for path in paths)
    assert paths[1].read_bytes().startswith(b"%PDF")
    with Image.open(paths[0]) as image:
        assert image.width == 990  # 3.3 inches of 300 dots
        assert image.info["dpi"][0] == pytest.approx(300, abs=1)


def test_rescaled_figures_are_named_so_and_may_go_elsewhere(make_run, tmp_path):
    (path,) = draw_run(make_run(), formats=["svg"], normalize="row", output=tmp_path / "paper" / "figures")
    assert path == tmp_path / "paper" / "figures" / "angular-row.svg"
    assert path.exists()


@pytest.mark.parametrize("file_format", ["png", "pdf", "svg"])
def test_drawing_twice_gives_the_same_bytes(make_run, tmp_path, file_format):
    run = make_run()
    first = draw_run(run, formats=[file_format], output=tmp_path / "a")[0].read_bytes()
    second = draw_run(read_run(run.directory), formats=[file_format], output=tmp_path / "b")[0].read_bytes()
    assert first == second


def test_text_in_a_pdf_stays_text(make_run):
    (path,) = draw_run(make_run(), formats=["pdf"])
    content = path.read_bytes()
    assert b"/CIDFontType2" in content or b"/TrueType" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content


def streams_in(pdf):
    """What lies compressed in a PDF, part by part."""
    parts = re.findall(rb"stream\r?\n(.*?)endstream", pdf, flags=re.DOTALL)
    return [zlib.decompress(part) for part in parts]


@pytest.mark.parametrize("style", ["auto", "slides"])
def test_a_font_is_embedded_once_with_its_shapes_alone_and_every_letter_can_be_searched(style):
    usual = subset.load_font
    letters = "AV1\N{MINUS SIGN}\N{GREEK SMALL LETTER DELTA}\N{EN DASH}"
    with drawn_for(style):
        figure = Figure((3, 2))
        figure.text(0.1, 0.5, letters, family=FONT, parse_math=False)
        streams = streams_in(render_bytes(figure, "pdf"))
    assert subset.load_font is usual
    (font,) = [TTFont(io.BytesIO(stream)) for stream in streams if stream.startswith(b"\x00\x01\x00\x00")]
    shapes = [name for name in font.getGlyphOrder() if font["glyf"][name].numberOfContours]
    assert len(shapes) == len(letters)
    assert not {"GSUB", "GPOS", "GDEF", "MATH", "kern"} & set(font.keys())
    (searched,) = [stream.decode() for stream in streams if b"begincmap" in stream]
    assert all(f"[<{ord(letter):04x}>]" in searched for letter in letters)


def test_the_title_is_the_models_id_unless_given(make_run):
    run = make_run(model="owner/na$me$")
    figures = [figure_of(run, title=title) for title in ("owner/na$me$", "")]
    assert [[text.get_text() for text in figure.texts] for figure in figures] == [
        ["owner/na$me$", "Python's standard library, 64 samples of up to 256 tokens"],
        ["Python's standard library, 64 samples of up to 256 tokens"],
    ]


@pytest.mark.parametrize("model", ["/data/models/my llama", "./my llama/", "~/my llama"])
def test_of_a_local_model_only_the_directory_name_is_shown(make_run, model):
    assert model_title(make_run(model=model)) == "my llama"


@pytest.mark.parametrize(
    ("formats", "asked"), [(["jpg"], "jpg"), (["png", "PDF", "x"], "PDF, x"), ([], "nothing")]
)
def test_an_unknown_format_is_refused_before_anything_is_drawn(make_run, formats, asked):
    run = make_run()
    with pytest.raises(OptionError) as caught:
        draw_run(run, formats=formats)
    assert str(caught.value) == f"--format must be one or more of png, pdf, svg, got {asked}."
    assert sorted(path.name for path in run.directory.iterdir()) == ["angular.csv", "manifest.json"]


def test_a_probe_without_a_figure_is_refused(make_run):
    with pytest.raises(
        RunError, match=r"is a run of 'other', which has no figure\. Figures exist for: angular"
    ):
        draw_run(make_run(probe="other"))


def test_a_full_disk_is_a_failure_of_the_machine_and_leaves_the_old_figure(make_run, monkeypatch):
    run = make_run()
    (path,) = draw_run(run, formats=["png"])
    old = path.read_bytes()

    def refuse(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(MachineError, match="Cannot write .*angular.png: no space left on device"):
        draw_run(run, formats=["png"], title="another")
    assert path.read_bytes() == old
    assert sorted(file.name for file in run.directory.iterdir()) == [
        "angular.csv",
        "angular.png",
        "manifest.json",
    ]


def test_an_output_that_is_a_file_is_refused(make_run, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="Cannot write .*file/angular.png: .*file is not a directory"):
        draw_run(make_run(), output=tmp_path / "file")


def test_a_run_is_drawn_where_torch_cannot_be_imported(make_run):
    run = make_run()
    code = """
import sys
from pathlib import Path
for name in ("torch", "transformers", "datasets", "matplotlib.pyplot"):
    sys.modules[name] = None
from depthprobe.render.charts.figures import draw_run
from depthprobe.render.terminal.listing import lines_of
from depthprobe.results.store import read_run
run = read_run(Path(sys.argv[1]))
draw_run(run, formats=["png", "pdf", "svg"])
assert lines_of(run)
for part in ("models", "probes", "pipeline", "texts"):
    assert f"depthprobe.{part}" not in sys.modules, part
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(run.directory)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (run.directory / "angular.svg").exists()
