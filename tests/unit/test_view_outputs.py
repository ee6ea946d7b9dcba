"""What a view gives to others: answers, the joined script, the page, the picture and the figure."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.builders import MIB, event, total, written
from tests.unit.made_runs import gpu_rows
from workbench.errors import RunError, UsageError
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.view import page as pages
from workbench.view import script as scripts
from workbench.view import still
from workbench.view.colours import colour_of
from workbench.view.comparison_screen import ComparisonScreen
from workbench.view.crossing import Answer
from workbench.view.figure import rendered, timeline_figure
from workbench.view.screen import Screen

STORE = Store(Path(__file__).parents[2] / "data" / "runs")
MARKUP = "<img src=x onerror=alert(1)>"
PHASES = [{"name": f"load {MARKUP}", "start_ns": 0, "end_ns": 90, "process": 1, "depth": 0}]


def small(folder: Path) -> Run:
    """A run in which every name is markup, on two tiers."""
    rows = [event(5, "alloc", 7 * MIB, 0x1000, owner=MARKUP, tag=MARKUP, stack=1)]
    stacks = [{"stack": 1, "frames": [f"/x/{MARKUP}.py:1 {MARKUP}"]}]
    totals = [total(50, "gpu", "used", 11 * MIB, device=0, process=0)]
    return written(folder, name=MARKUP, events=[*rows, *gpu_rows(3, 200)], stacks=stacks, phases=PHASES, totals=totals)


def asked(screen: Screen, **question: Any) -> Answer:
    answer = screen.answer(question)
    assert "error" not in answer.facts, answer.facts
    return answer


def test_answers_cross_as_arrow_lays_them_out() -> None:
    answer = Answer({"a": 1}, {"n": np.array([1, 2**53]), "t": ["é", ""], "none": [], "i": np.array([3], np.int32)})
    facts, buffers = answer.crossing()
    assert facts["columns"][0] == {"name": "n", "type": "double", "rows": 2}
    assert np.frombuffer(buffers[0], np.float64)[:2].tolist() == [1, 2**53]
    texts = pa.StringArray.from_buffers(2, pa.py_buffer(buffers[1]), pa.py_buffer(buffers[2]))
    assert texts.to_pylist() == ["é", ""]
    packed = answer.packed()
    count, first, *_ = struct.unpack_from("<3I", packed)
    assert count == 1 + len(buffers)
    head = -(-4 * (count + 1) // 8) * 8
    assert json.loads(packed[head : head + first])["a"] == 1
    assert len(packed) % 8 == 0


def test_a_ledger_is_the_run_s_own(tmp_path: Path) -> None:
    run = small(tmp_path)
    answer = asked(Screen(run), ask="ledger", tier="gpu", by="owner", at=60)
    ledger = run.ledger("gpu", 60)
    assert answer.facts["ledger"]["used"] == 11 * MIB == ledger.used
    assert answer.columns["owner"] == [entry.owner for entry in ledger.entries]
    assert list(answer.columns["bytes"]) == [entry.bytes for entry in ledger.entries]


def test_allocations_of_a_band_add_up_to_it(tmp_path: Path) -> None:
    screen = Screen(small(tmp_path))
    at = screen.end_ns // 2
    for by in ("owner", "tag"):
        for band in screen.bands("gpu", by).bands:
            answer = asked(screen, ask="allocations", tier="gpu", by=by, band=band.name, start=at, end=at)
            place = np.searchsorted(screen.bands("gpu", by).times_ns, at, side="right") - 1
            held = int(band.steps.after(np.array([place]))[0])
            if not band.name.endswith("unused"):  # whose allocations are the segments themselves
                assert answer.facts["bytes"] == held


def test_search_finds_owners_tags_and_frames(tmp_path: Path) -> None:
    screen = Screen(small(tmp_path))
    whole = {"tier": "pageable", "by": "owner", "start": 0, "end": screen.end_ns}
    for text, count in (("ONERROR", 1), ("/x/", 1), ("nowhere", 0)):
        assert asked(screen, ask="allocations", **whole, match=text).facts["count"] == count
    series = asked(screen, ask="series", **whole, columns=10, match="onerror")
    assert max(series.columns["match"]) == 7 * MIB


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ({"ask": "weather"}, "nobody can answer 'weather'"),
        ({"ask": "series", "tier": "pinned"}, "nothing in a tier 'pinned'; it has gpu, pageable"),
        ({"ask": "series", "tier": "gpu", "by": "size", "start": 0, "end": 1}, "by 'size'"),
    ],
)
def test_what_can_not_be_answered_says_why(tmp_path: Path, question: dict[str, Any], reason: str) -> None:
    assert reason in Screen(small(tmp_path)).answer(question).facts["error"]


@pytest.mark.parametrize("entry", ["widget", "page", "comparison_page", "panel"])
def test_joined_modules_import_nothing_and_share_no_name(entry: str) -> None:
    text = scripts.script(entry)
    assert not re.search(r"^import ", text, re.MULTILINE)
    names = re.findall(r"^(?:export )?(?:async )?(?:function\*?|class|const|let) ([A-Za-z_]\w*)", text, re.MULTILINE)
    assert len(names) == len(set(names)) > 40
    assert "innerHTML" not in text


def test_a_page_is_never_larger_than_it_may_be(tmp_path: Path) -> None:
    for run in STORE.runs():
        target = run.to_html(tmp_path / f"{run.id}.html")
        assert 60_000 < target.stat().st_size <= pages.LARGEST
    six = ComparisonScreen(STORE.runs()[:6])
    assert len(pages.comparison_page(six).encode()) <= 6 * pages.LARGEST
    with pytest.raises(RunError, match="can not be shown in 1000 bytes"):
        pages.page(Screen(run), 1000)
    with pytest.raises(RunError, match="can not be written"):
        run.to_html(tmp_path / "no" / "folder.html")


def test_names_are_text_in_what_is_saved(tmp_path: Path) -> None:
    screen = Screen(small(tmp_path))
    shown = still.bundle(screen, "gpu", "owner", "name")
    picture = ElementTree.fromstring(shown["image/svg+xml"])
    assert MARKUP in "".join(picture.itertext())
    compared = ComparisonScreen([screen.run, screen.run])
    compared_still = still.comparison_bundle(compared, "gpu", "name")
    assert MARKUP in "".join(ElementTree.fromstring(compared_still["image/svg+xml"]).itertext())
    texts = (shown["text/html"], pages.page(screen), compared_still["text/html"], pages.comparison_page(compared))
    for text in texts:
        assert "<img src=x" not in text


def test_a_picture_shows_every_band(tmp_path: Path) -> None:
    screen = Screen(small(tmp_path))
    colours = re.findall(r'<path d="M[^"]*Z" fill="(#\w+)"', still.svg(screen, "gpu", "owner"))
    assert colours == [colour_of(band.name).light for band in screen.bands("gpu", "owner").bands]
    assert "at most" in still.text(screen, "gpu")


def test_an_empty_run_can_be_shown(tmp_path: Path) -> None:
    run = written(tmp_path)
    assert run.view().still()["image/svg+xml"]
    assert len(rendered(run.figure(), "svg")) > 1000
    assert run.to_html(tmp_path / "page.html").stat().st_size > 50_000


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_figures_are_files_for_papers(tmp_path: Path, kind: str, begins: bytes) -> None:
    figure = small(tmp_path).figure("gpu", "tag")
    found = rendered(figure, kind)
    assert found.startswith(begins)
    [axes] = figure.axes
    assert axes.get_ylabel() == "MiB"
    names = axes.get_legend_handles_labels()[1]
    assert {"weights", "unused"} <= {name.split(" (")[0] for name in names}


def test_names_are_text_in_a_figure_and_none_is_left_out(tmp_path: Path) -> None:
    names = ("_C.abi3.so", "$\\frac{$", MARKUP)
    rows = [event(5, "alloc", MIB, place, owner=name) for place, name in enumerate(names, start=1)]
    phases = [{"name": "$^$", "start_ns": 0, "end_ns": 90, "process": 1, "depth": 0}]
    figure = written(tmp_path, name="$a_b$", events=rows, phases=phases).figure()
    target = tmp_path / "paper.svg"
    figure.savefig(target)
    words = "".join(ElementTree.parse(target).getroot().itertext())
    for name in (*names, "$^$", "$a_b$"):
        assert name in words
    assert float(ElementTree.parse(target).getroot().attrib["width"].removesuffix("pt")) > 7 * 72  # with its legend


def test_a_view_begins_with_what_the_run_has(tmp_path: Path) -> None:
    run = small(tmp_path)
    with pytest.raises(UsageError, match="nothing in a tier 'pinned'"):
        run.view("pinned")
    with pytest.raises(UsageError, match="by 'size'"):
        run.view(by="size")
    with pytest.raises(RunError, match="no tier 'disk'"):
        timeline_figure(run, "disk")


def test_colours_are_the_same_for_the_same_library_whatever_its_version() -> None:
    assert colour_of("libcublas.so.12") == colour_of("libcublas.so.13")
    assert colour_of("python3.11") == colour_of("python3.12") == colour_of("libpython3.13.so.1.0")
    assert colour_of("libopenblasp-r0-59ffcd50.3.15.so") == colour_of("libopenblasp-r0-0a1b2c3d.so")
    assert colour_of("_x.cpython-311-x86_64-linux-gnu.so") == colour_of("_x.abi3.so")
    on_cpu = [
        "torch",
        "python3.11",
        "heap",
        "libtorch_cpu.so",
        "libtorch_python.so",
        "libscipy_openblas64_-fdde5778.so",
    ]
    on_cpu += ["libarrow.so.2600", "tokenizers.abi3.so", "_safetensors_rust.abi3.so", "_C.abi3.so"]
    assert len({colour_of(name) for name in on_cpu}) == len(on_cpu)
    together = ("torch", "libnccl.so.2", "context", "modules", "graphs", "streams", "libcublas.so.13", "torch unused")
    assert len({colour_of(name) for name in together}) == len(together)
    assert len({colour_of(name) for name in ("weights", "kv_cache", "activations", "graphs", "unused", "no tag")}) == 6
