"""The HTML report: one file that needs nothing else, in which a layer's name can do no harm."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nmc
from nmc.bundle import Bundle
from nmc.cli import main
from nmc.frontend import opgraph as og

SAMPLE = Path(__file__).parents[2] / "examples" / "ci"
HOSTILE = "<script>alert(1)</script>\"'&--><img src=x onerror=alert(2)>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MAX_BYTES = 2 << 20


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """A residual network with a layer of a hostile name."""
    graph = nmc.load(SAMPLE / "model.nir")
    old = next(name for name, op in graph.nodes.items() if isinstance(op, og.Neuron))
    swap = {old: HOSTILE}
    nodes = {swap.get(name, name): op for name, op in graph.nodes.items()}
    edges = tuple((swap.get(a, a), swap.get(b, b)) for a, b in graph.edges)
    return nmc.compile(replace(graph, nodes=nodes, edges=edges), data=np.load(SAMPLE / "samples.npz")["x"])


@pytest.fixture(scope="module")
def page(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    bundle.save(folder / "a.nmc")
    run = ["run", str(folder / "a.nmc"), "-i", str(SAMPLE / "samples.npz"), "-o", str(folder / "t.npz")]
    assert main(run) == 0
    out = ["--format", "html", "-o", str(folder / "report.html")]
    assert main(["report", str(folder / "a.nmc"), "--trace", str(folder / "t.npz"), *out]) == 0
    return folder / "report.html"


class Reader(html.parser.HTMLParser):
    """Collects tags, attributes and the text of the page; checks that tags are closed."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_one_file_that_needs_nothing_else(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = Reader(text)
    assert len(text.encode()) < MAX_BYTES
    assert found.tags.isdisjoint({"script", "img", "iframe", "object", "embed", "form", "base", "a", "use"})
    addresses = [value for name, value in found.attributes if name in ("src", "href", "xlink:href", "action")]
    assert addresses == []
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    outside = re.findall(r"https?://[^\s\"'<]+", text)
    assert set(outside) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in text
    assert "@import" not in text


def test_a_name_stays_text(page: Path) -> None:
    found = Reader(page.read_text(encoding="utf-8"))
    assert "<script>alert(1)</script>" in found.text
    # In a table, in the charts and in the core map.
    assert found.text.count("alert(1)") >= 6


def test_everything_is_there(page: Path, bundle: Bundle) -> None:
    text = Reader(page.read_text(encoding="utf-8")).text
    for needed in (
        *("Firing rate", "Energy per inference with", "range over all constants", "Time on the chip"),
        *("energy per inference", "not priced", "assumes", "Davies 2018", "cores", "spike-hops"),
    ):
        assert needed in text, needed
    for population in bundle.network.compute:
        assert population.label in text


def test_bars_are_as_long_as_their_numbers(bundle: Bundle) -> None:
    """The longest stacked bar and its parts, re-measured from the page: shares of the chart's width."""
    from nmc.reports.charts import energies

    trace = nmc.run(bundle, np.load(SAMPLE / "samples.npz")["x"])
    report = nmc.report(bundle, trace)
    rows = [row for row in report.rows if row.activity is not None and row.neurons]
    row = max(rows, key=lambda one: one.activity.energy.total)
    scale = 100 / max(max(one.activity.energy_range[1], one.activity.energy.total) for one in rows)
    chart, start = energies(report), 0.0
    name = re.escape(html.escape(row.name))
    for term in ("synapse", "update"):
        length = getattr(row.activity.energy, term) * scale
        found = re.findall(rf'title="{name}: {term} [^"]*" style="left:([\d.]+)%;width:([\d.]+)%', chart)
        assert [float(one) for one in found[0]] == pytest.approx([start, length], abs=0.006)
        start += length
    low, high = (end * scale for end in row.activity.energy_range)
    (found,) = re.findall(rf'title="{name}: range [^"]*" style="left:([\d.]+)%;width:([\d.]+)%', chart)
    assert [float(one) for one in found] == pytest.approx([low, high - low], abs=0.011)


Shots = dict[int, tuple[str, Path]]


@pytest.fixture(scope="module")
def shots(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Shots:
    """By window width: what the browser said, and what it showed."""
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    found: Shots = {}
    for width in (1400, 400):
        folder = tmp_path_factory.mktemp("browser")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        options += ["--disable-background-networking", "--enable-logging=stderr"]
        options += [f"--user-data-dir={folder}", f"--window-size={width},6000"]
        command = [CHROMIUM, *options, f"--screenshot={folder / 'page.png'}", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        found[width] = done.stderr, folder / "page.png"
    return found


@pytest.mark.parametrize("width", [1400, 400])
def test_a_browser_has_nothing_to_complain_about(shots: Shots, width: int) -> None:
    said, shot = shots[width]
    assert "CONSOLE" not in said
    assert shot.stat().st_size > 20_000


@pytest.mark.parametrize("width", [1400, 400])
def test_nothing_sticks_out_of_the_page(shots: Shots, width: int) -> None:
    """The margin at the right stays empty: what is wider than the page scrolls in a box of its own."""
    image = pytest.importorskip("PIL.Image", reason="Pillow reads the screenshot")
    pixels = np.asarray(image.open(shots[width][1]).convert("RGB"))
    assert pixels.shape[1] == width
    assert (pixels[:, -8:] == pixels[0, 0]).all()
    assert (pixels[:, :-8] != pixels[0, 0]).any()
