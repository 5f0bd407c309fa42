"""The page: self-contained, everything in it said and escaped, nothing in it longer than one looks through."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from reports import FAILED, PLANNED, REFUSED, REPORT, TRAINED, UNTRAINED, long

from bridge.report import html, plots
from bridge.report.records import Row
from bridge.report.report import Report
from bridge.report.tree import SHOWN, tree
from bridge.verification.checks import TORCH_ORT, Check


class Page(HTMLParser):
    """Checks that tags close in order, and keeps attributes and text."""

    VOID = ("meta", "br", "input")

    def __init__(self, page):
        super().__init__()
        self.open, self.attributes, self.texts = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]


def scripts(page):
    """What stands in each script of the page, with its attributes."""
    return re.findall(r"<script([^>]*)>(.*?)</script>", page, re.S)


@pytest.mark.parametrize("report", [REPORT, TRAINED, FAILED, REFUSED, PLANNED, UNTRAINED, Report("empty")])
def test_page_is_well_formed_and_self_contained(report):
    page = html.render(report)
    parsed = Page(page)
    assert not parsed.values("src")
    assert not parsed.values("onclick")
    assert all(
        target.startswith("#") and target[1:] in parsed.values("id") for target in parsed.values("href")
    )
    assert not {"link", "img", "iframe", "object"} & {item[0] for item in parsed.attributes}
    loaded = page.replace("http://www.w3.org/2000/svg", "")  # a name, which is not fetched
    assert not [word for word in ("url(", "@import", "://") if word in loaded]
    assert ("html", "lang", "en") in parsed.attributes
    assert len(parsed.values("id")) == len(set(parsed.values("id")))


def test_no_script_runs_but_the_pages_own():
    page = html.render(REPORT)
    [(kind, _), (own, script)] = scripts(page)
    assert 'type="application/json"' in kind
    assert own == ""
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert html._hash(script) in policy
    assert "default-src 'none'" in policy


def test_page_says_everything():
    shown = Page(html.render(REPORT)).text
    for said in (
        "embedding", "BiLSTM", "Bidirectional", "2,496", "as in torch", "10 × 52",
        "encoder.weight_ih_l0: o i -> i o", "one way", "not trainable", "torch ↔ onnxruntime",
        "batch=1, time=21",
        "1.5e-15", "the source itself does not run at batch=0", "projected", "bridge>Cell: A recurrent cell",
        "int64, 0 to 40", "nodes after it", "31", "seed=0",
    ):  # fmt: skip
        assert said in shown


def test_page_shows_training():
    shown = Page(html.render(TRAINED)).text
    assert "gradients float64" in shown
    assert "encoder.weight_ih_l0 3.0e-13" in shown
    assert "after step" not in shown.partition("The network")[0].partition("Relative error on")[2]
    assert "scale 5 Mul takes it as a constant" in Page(html.render(UNTRAINED)).text


def test_page_escapes():
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    report = replace(
        REPORT, source=evil, notes=(evil,), rows=(Row(evil, evil, evil, evil, 1, 0.1, evil, evil, (-1,)),),
        refusals=(evil,), custom_layers=(evil,), layers={evil: evil}, command=evil,
    )  # fmt: skip
    page = html.render(report)
    assert len(scripts(page)) == 2
    assert "<img" not in page
    assert data(page)["rows"][0][0] == html.cut(evil)
    assert "decoder &lt;b&gt;" in html.render(REFUSED)


def test_names_of_any_length_are_cut():
    long_name = "ab." * 400_000
    report = replace(
        REPORT, source=long_name, refusals=(long_name,), notes=(long_name,),
        rows=(replace(REPORT.rows[0], path=long_name, name=long_name),),
        variables=(replace(REPORT.variables[0], path=long_name, recipe=long_name),),
    )  # fmt: skip
    page = html.render(report)
    assert len(page) < 200_000
    assert Page(page)


def data(page):
    """What the script draws."""
    return json.loads(scripts(page)[0][1])


def test_the_data_of_the_graph():
    found = data(html.render(REPORT))
    assert [row[9] for row in found["rows"]] == [[-1], [0], [0, 1], [2], [3], [4]]
    assert found["modules"] == [["TextClassifier", -1], ["head", 0], ["1", 1]]
    assert [row[10] for row in found["rows"]] == [0, 0, 0, 1, 2, 2]
    assert found["layers"] == REPORT.layers
    assert found["variables"][1] == [
        "head_0",
        "head_0/bias",
        "17",
        "folded(head.0.bias)",
        "not trainable, one way",
    ]
    assert found["outputs"] == [["scores", "scores: (batch free, 3 fixed)", 5]]


def test_tree_follows_the_paths():
    root = tree(REPORT)
    assert list(root.below) == ["embedding", "encoder", "head"]
    assert [row.op for _, row in root.rows] == ["Concat"]
    assert root.below["head"].error == 2.4e-6
    assert root.below["head"].parameters == 459  # one layer, used twice
    assert root.error == 2.4e-6
    slashes = tree(Report("net", rows=(Row("/encoder/lstm/LSTM", "LSTM", "LSTM", "lstm", 1),)))
    assert [branch.name for branch in slashes.branches()] == ["net", "encoder.lstm.LSTM"]


@pytest.mark.parametrize("flat", [False, True])
def test_no_module_is_longer_than_one_looks_through(flat):
    root = tree(long(5000, flat=flat))
    assert [place for place, _ in sorted(root.all_rows())] == list(range(5000))
    assert max(branch.lines for branch in root.branches()) <= 200
    opened = [branch for branch in root.branches() if branch.open]
    assert sum(branch.lines for branch in opened) <= SHOWN + root.lines


def test_the_way_to_what_departs_is_open():
    report = long(500)
    departing = tuple(
        replace(row, error=0.1) if place == 333 else row for place, row in enumerate(report.rows)
    )
    branch = tree(replace(report, rows=departing))
    while branch.below:
        assert branch.open
        branch = next(b for b in branch.below.values() if 333 in dict(b.all_rows()))
    assert branch.error == 0.1


def test_a_long_report_is_a_page_of_a_few_megabytes():
    assert len(html.render(long(5000)).encode()) < 10e6


def test_errors_along_the_network():
    found = plots.profile(REPORT)
    assert [point.place for point in found.points] == [0, 1, 2, 3, 4]
    assert [text for _, _, text in found.lines] == ["limit 1e-05", "one rounding in float32"]
    heights = dict(zip(range(5), (point.y for point in found.points), strict=True))
    assert heights[0] == 0.0 < found.lines[1][0] < heights[1] < heights[3] < found.lines[0][0]
    assert plots.profile(PLANNED) is None
    broken = replace(REPORT, rows=(replace(REPORT.rows[0], error=float("nan")), *REPORT.rows[1:]))
    assert plots.profile(broken).points[0].y == 100.0
    assert plots.largest(broken)[:2] == [0, 3]
    assert len(plots.profile(long(5000)).points) <= plots.COLUMNS


def test_a_leg_without_a_limit_has_a_lane():
    [lane] = plots.lanes(replace(REPORT, checks=(Check(TORCH_ORT, "as converted", float("inf"), 0.0),)))
    assert (lane.worst, lane.passed, lane.checks[0][0]) == (float("inf"), False, 100.0)


@pytest.mark.parametrize(
    ("error", "name"),
    [(None, "unknown"), (0.0, "close"), (1e-7, "close"), (1e-6, "good"), (1e-5, "near"), (2e-5, "off"),
     (float("inf"), "off"), (float("nan"), "off")],
)  # fmt: skip
def test_level(error, name):
    assert plots.level(error, 1e-5) == name


def test_errors_beyond_the_limit_are_marked():
    attributes = Page(html.render(FAILED)).attributes
    assert ("span", "class", "error off") in attributes
    assert ("span", "class", "error off") not in Page(html.render(REPORT)).attributes
