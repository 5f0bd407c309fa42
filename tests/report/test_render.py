"""Reports as text, HTML and JSON: pure functions of the report, with everything in it said."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

import bridge
from bridge.report import html, text
from bridge.report.report import Axis, Report, Row, Value, Variable
from bridge.verification.checks import GRADIENTS, ORT_KERAS, STEPS, TORCH_KERAS, TORCH_ORT, Check, Gradient

SIZES = ("batch=3, time=7", "batch=4, time=8", "batch=1, time=21")
REPORT = Report(
    source="TextClassifier",
    backend="tensorflow",
    versions={"keras": "3.15.1"},
    inputs=(Value("tokens", (Axis(None, "batch"), Axis(None, "time"))),),
    outputs=(Value("scores", (Axis(None, "batch"), Axis(3))),),
    notes=("the source itself does not run at batch=0",),
    rows=(
        Row("embedding", "Gather", "Embedding", "embedding", 410, 0.0),
        Row("encoder", "BiLSTM", "Bidirectional", "encoder", 2496, 1.2e-7),
        Row("", "Concat", "Concatenate", "concat", 0, 2.1e-7),
        Row("head.0", "Linear", "Dense", "head_0", 459, 2.4e-6),
        Row("head.1", "Linear", "Dense", "head_0", 459, 3.1e-7),
        Row("head.1", "Reshape", "keras.ops", "", 0),
    ),
    checks=tuple(
        Check(leg, sizes, error, 1e-5)
        for sizes in SIZES
        for leg, error in ((TORCH_ORT, 1e-7), (ORT_KERAS, 2e-7))
    )
    + (Check(TORCH_KERAS, SIZES[0], 1.5e-15, 1e-10, "float64"),),
    variables=(
        Variable("encoder/kernel", (10, 52), True, "encoder.weight_ih_l0: o i -> i o"),
        Variable("head_0/bias", (17,), False, "folded(head.0.bias)", one_way=True),
    ),
    source_parameters=3365,
    trainable=3365,
    non_trainable=12,
    transposes=2,
    custom_layers=("projected",),
    seconds={"export": 1.5, "build": 0.25},
)
FAILED = replace(
    REPORT,
    checks=(Check(ORT_KERAS, SIZES[1], 4e-3, 1e-5),),
    rows=(*REPORT.rows[:3], replace(REPORT.rows[3], error=3e-3)),
    first_mismatch="onnxruntime ↔ Keras differ by 0.004",
)
TRAINED = replace(
    REPORT,
    checks=(
        *REPORT.checks,
        Check(GRADIENTS, SIZES[0], 3e-13, 1e-8, "float64"),
        *(Check(STEPS, f"after step {number}", 1e-16, 1e-8, "float64") for number in (1, 2)),
    ),
    gradients=(Gradient("encoder.weight_ih_l0", 3e-13), Gradient("head.0.bias", 0.0)),
)
AMPLIFIES = replace(
    REPORT, checks=(*REPORT.checks[:-1], Check(TORCH_KERAS, SIZES[0], 3e-4, 2e-3), REPORT.checks[-1])
)
AMPLIFIED = (
    "proved equal in float64: largest relative error 1.5e-15 at 3 choices of sizes (3.0e-04 in float32)"
)
REFUSED = Report("net", refusals=("Loop at decoder <b>: no builder for this operator",))
PLANNED = Report("net", rows=(Row("conv", "Conv", "conv", "", 0),))


@pytest.mark.parametrize("report", [REPORT, TRAINED, FAILED, REFUSED, PLANNED])
def test_json_round_trip(report):
    assert Report.from_json(report.to_json()) == report


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '{"source": "net"}',
            "a report of no format, of which this version of bridge reads 2: convert again",
        ),
        ('{"format": 99, "source": "net"}', "a report of format 99"),
        ('{"format": 2, "source": 7}', "not a report"),
        ('{"format": 2, "blame": ""}', "not a report"),
        ("[1]", "not a report"),
        ("{", "not a report"),
    ],
)
def test_json_that_is_no_report(text, says):
    with pytest.raises(bridge.SourceError, match=says):
        Report.from_json(text)


def test_a_report_is_saved_in_the_format_of_its_suffix(tmp_path):
    for suffix, written in {
        ".txt": str(REPORT),
        ".json": REPORT.to_json(),
        ".html": REPORT.to_html(),
    }.items():
        assert REPORT.save(tmp_path / f"r{suffix}").read_text(encoding="utf-8") == written
    with pytest.raises(bridge.OutputError, match=r"a report is written as \.html, \.json, \.txt"):
        REPORT.save(tmp_path / "r.pdf")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))
    parser.feed(REPORT._repr_html_())
    assert [tag for tag, _ in found] == ["iframe"]
    assert found[0][1]["srcdoc"] == REPORT.to_html()


def test_one_kind_is_not_kinds():
    odd = replace(REPORT.checks[0], values="large numbers")
    assert "and 1 kind of odd values" in replace(REPORT, checks=(*REPORT.checks, odd)).verdict


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (REPORT, "proved equal: largest relative error 2.0e-07 at 3 choices of sizes"),
        (TRAINED, "proved equal: largest relative error 2.0e-07 at 3 choices of sizes, in training too"),
        (AMPLIFIES, AMPLIFIED),
        (FAILED, "NOT equal: onnxruntime ↔ Keras differ by 0.004"),
        (REFUSED, "cannot be converted: 1 node refused"),
        (PLANNED, "planned, not built"),
        (replace(REPORT, checks=()), "converted, not compared"),
    ],
)
def test_verdict(report, says):
    assert report.verdict == says
    assert says in text.render(report)
    assert says in html.render(report)


# --- text ---------------------------------------------------------------------------------------------------


def test_text_says_everything():
    shown = text.render(REPORT)
    for said in (
        "embedding", "BiLSTM", "Bidirectional encoder", "2,496", "1.2e-07", "keras.ops",
        "torch ↔ onnxruntime", "batch=1, time=21", "float64", "1.5e-15", "1e-10",
        "tokens: (batch free, time free)", "3,365 trainable (torch: 3,365), 12 not trainable", "projected",
        "the source itself does not run at batch=0", "export 1.50 s", "1.75 s in all", "keras 3.15.1",
    ):  # fmt: skip
        assert said in shown
    assert str(REPORT) == shown


def test_text_has_no_escapes_and_keeps_its_width():
    shown = text.render(REPORT, width=70)
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 70


def test_text_in_colour_marks_errors_beyond_the_limit():
    failed = next(line for line in text.render(FAILED, color=True).splitlines() if "3.0e-03" in line)
    assert "\x1b[1;31m3.0e-03" in failed


def test_text_shows_one_path_once():
    shown = text.render(REPORT)
    assert shown.count("head.1") == 1


def test_brackets_in_names_are_not_markup():
    report = replace(REFUSED, source="[red]net", refusals=("Gather at [b]x[/b]: no",), notes=("[bold]",))
    assert "[red]net" in text.render(report)
    assert "[b]x[/b]" in text.render(report)


# --- HTML ---------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that tags close in order, and keeps attributes and text."""

    VOID = ("meta", "br")

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


@pytest.mark.parametrize("report", [REPORT, TRAINED, FAILED, REFUSED, PLANNED, Report("empty")])
def test_page_is_well_formed_and_self_contained(report):
    page = html.render(report)
    parsed = Page(page)
    assert not [item for item in parsed.attributes if item[1] in ("src", "href", "onclick")]
    assert not {"script", "link", "img", "iframe"} & {item[0] for item in parsed.attributes}
    assert not [loaded for loaded in ("url(", "@import", "://") if loaded in page]
    assert ("html", "lang", "en") in parsed.attributes


def test_page_says_everything():
    shown = Page(html.render(REPORT)).text
    for said in (
        "embedding", "BiLSTM", "Bidirectional", "2,496", "as in torch", "10 × 52",
        "encoder.weight_ih_l0: o i -> i o", "one way", "not trainable", "torch ↔ onnxruntime",
        "batch=1, time=21",
        "1.5e-15", "the source itself does not run at batch=0", "projected",
    ):  # fmt: skip
        assert said in shown


def test_page_shows_training():
    shown = Page(html.render(TRAINED)).text
    assert "gradients float64" in shown
    assert "encoder.weight_ih_l0 3.0e-13" in shown
    assert "after step" not in shown.partition("What became what")[0]


def test_page_escapes():
    page = html.render(replace(REFUSED, source="<script>alert(1)</script>"))
    assert "<script" not in page
    assert "decoder &lt;b&gt;" in page


def test_tree_follows_the_paths():
    root = html.tree(REPORT)
    assert list(root.below) == ["embedding", "encoder", "head"]
    assert [row.op for row in root.rows] == ["Concat"]
    assert root.below["head"].error == 2.4e-6
    assert root.below["head"].parameters == 459  # one layer, used twice
    assert root.error == 2.4e-6
    slashes = html.tree(Report("net", rows=(Row("/encoder/lstm/LSTM", "LSTM", "LSTM", "lstm", 1),)))
    assert list(slashes.below["encoder"].below) == ["lstm"]


@pytest.mark.parametrize(
    ("error", "name"),
    [(None, "unknown"), (0.0, "close"), (1e-7, "close"), (1e-6, "good"), (1e-5, "near"), (2e-5, "off"),
     (float("inf"), "off"), (float("nan"), "off")],
)  # fmt: skip
def test_level(error, name):
    assert html.level(error, 1e-5) == name


def test_errors_beyond_the_limit_are_marked():
    attributes = Page(html.render(FAILED)).attributes
    assert ("span", "class", "error off") in attributes
    assert ("span", "class", "error off") not in Page(html.render(REPORT)).attributes
