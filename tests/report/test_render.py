"""Reports as text and JSON: pure functions of the report, with everything in it said; their verdicts."""

import json
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from reports import FAILED, PLANNED, REFUSED, REPORT, SIZES, TRAINED, UNTRAINED, long

import bridge
from bridge.report import html, records, text
from bridge.report.report import FORMAT, TOLD, Report
from bridge.report.verdict import repeat
from bridge.verification.bisect.origin import Handed, Origin
from bridge.verification.checks import TORCH_KERAS, Check, Gradient

DOCS = Path(bridge.__file__).parents[1] / "docs" / "report.md"
AMPLIFIES = replace(
    REPORT, checks=(*REPORT.checks[:-1], Check(TORCH_KERAS, SIZES[0], 3e-4, 2e-3), REPORT.checks[-1])
)
AMPLIFIED = (
    "proved equal in float64: largest relative error 1.5e-15 at 3 choices of sizes (3.0e-04 in float32)"
)


def test_the_text_is_the_same_in_a_notebook(monkeypatch):
    plain = REPORT.to_text()
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert REPORT.to_text() == plain


@pytest.mark.parametrize("report", [REPORT, TRAINED, FAILED, REFUSED, PLANNED])
def test_json_round_trip(report):
    assert Report.from_json(report.to_json()) == report


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '{"source": "net"}',
            "a report of no format; this version of bridge reads 2, 3, 4 and 5: convert again",
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


def test_a_report_of_the_format_before_has_fewer_fields():
    old = Report.from_json('{"format": 2, "source": "net", "rows": [], "seed": 3}')
    assert old == Report("net", seed=3)


def test_json_says_what_follows_from_the_fields():
    told = json.loads(FAILED.to_json())
    assert told["format"] == FORMAT
    assert {name: told[name] for name in TOLD} == {name: getattr(FAILED, name) for name in TOLD}


def test_the_schema_is_documented_whole():
    kinds = (
        Report,
        records.Row,
        records.Variable,
        records.Untrained,
        records.Axis,
        records.Value,
        Check,
        Gradient,
        Origin,
        Handed,
    )
    documented = DOCS.read_text(encoding="utf-8")
    assert [f.name for kind in kinds for f in fields(kind) if f"`{f.name}`" not in documented] == []
    assert [name for name in TOLD if f"`{name}`" not in documented] == []
    assert f"format {FORMAT}" in documented


def test_a_report_is_saved_in_the_format_of_its_suffix(tmp_path):
    for suffix, written in {
        ".txt": str(REPORT),
        ".json": REPORT.to_json(),
        ".md": REPORT.to_markdown(),
        ".html": REPORT.to_html(),
    }.items():
        assert REPORT.save(tmp_path / f"r{suffix}").read_text(encoding="utf-8") == written
    with pytest.raises(bridge.OutputError, match=r"a report is written as \.html, \.json, \.md, \.txt"):
        REPORT.save(tmp_path / "r.pdf")
    assert len(list(tmp_path.iterdir())) == 4


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


def test_where_it_departs_is_said_in_text_and_on_the_page():
    for shown in (text.render(FAILED), html.render(FAILED)):
        for said in (
            "plan and build: Linear head.0 (net.py:9), which became head_0",
            "a wrong formula",
            "linear_1",
        ):
            assert said in shown
    assert html.render(REPORT).count("Where it departs") == 0


def test_markdown_is_a_summary_in_which_names_are_no_markup():
    shown = FAILED.to_markdown()
    assert shown.startswith("### ❌ TextClassifier → Keras\n")
    assert "| onnxruntime ↔ Keras ❌ | float32 |" in shown
    assert "Departs first at **plan and build: Linear head.0 \\(net.py:9\\), which became head\\_0**" in shown
    assert (
        "| head.0 | Linear | head\\_0 | 3.0e\\-03 |" in shown
        or "| head.0 | Linear | head\\_0 | 3.0e-03 |" in shown
    )
    hostile = replace(REPORT, source="<img onerror=x> | `a` [b](c)\n# d").to_markdown()
    assert hostile.startswith("### ✅ &lt;img onerror=x&gt; \\| \\`a\\` \\[b\\]\\(c\\) \\# d → Keras\n")


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


@pytest.mark.parametrize("report", [REPORT, UNTRAINED, FAILED, REFUSED, PLANNED, replace(REPORT, checks=())])
def test_what_to_do_next_is_said(report):
    assert report.advice in text.render(report).replace("\n", " ")
    assert report.advice in html.render(report)


def test_the_verdict_stands_first_and_last_around_a_long_list():
    lines = text.render(long(200)).splitlines()
    assert lines[1].startswith("proved equal")
    assert lines[-2].startswith("proved equal")
    assert text.render(REPORT).count("proved equal") == 1


def test_long_lists_are_folded_to_a_count():
    report = replace(long(200), refusals=("Loop at x: no",) * 100)
    shown = text.render(report)
    assert len(shown.splitlines()) < 100
    assert "… 176 more nodes, the largest error 6.3e-07 at stages.0.blocks.0.0" in shown
    assert "… 76 more refusals: " in shown
    whole = text.render(report, full=True)
    assert whole.count("Loop at x: no") == 100
    assert "dense_199" in whole
    assert "… " not in whole


def test_a_saved_text_is_whole(tmp_path):
    report = long(200)
    assert "dense_199" in report.save(tmp_path / "r.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("report", "command"),
    [
        (REPORT, "bridge.convert(TextClassifier, …, verify=bridge.Verify(seed=0, float64=True))"),
        (replace(TRAINED, seed=7), "bridge.convert(TextClassifier, …, verify=bridge.Verify(seed=7, training=True))"),
        (replace(REPORT, checks=()), "bridge.convert(TextClassifier, …, verify=False)"),
        (PLANNED, "bridge.inspect(net, …)"),
        (replace(REPORT, command="bridge convert n.onnx -o n.keras"), "bridge convert n.onnx -o n.keras"),
    ],
)  # fmt: skip
def test_the_command_that_repeats_it(report, command):
    assert repeat(report) == command
    assert command in html.render(report).replace("&#39;", "'")
