"""Reports to show: of a conversion that is proved, trained, failed, refused, planned; and one of many nodes."""

from dataclasses import replace

from bridge.report.records import Axis, Row, Untrained, Value, Variable
from bridge.report.report import Report
from bridge.verification.bisect.origin import BUILD, Handed, Origin
from bridge.verification.checks import GRADIENTS, ORT_KERAS, STEPS, TORCH_KERAS, TORCH_ORT, Check, Gradient

SIZES = ("batch=3, time=7", "batch=4, time=8", "batch=1, time=21")
REPORT = Report(
    source="TextClassifier",
    backend="tensorflow",
    versions={"keras": "3.15.1"},
    inputs=(Value("tokens", (Axis(None, "batch"), Axis(None, "time")), "int64, 0 to 40"),),
    outputs=(Value("scores", (Axis(None, "batch"), Axis(3)), row=5),),
    notes=("the source itself does not run at batch=0",),
    rows=(
        Row(
            "embedding", "Gather", "Embedding", "embedding", 410, 0.0, "net.py:7", "(batch, time, 10)", (-1,)
        ),
        Row("encoder", "BiLSTM", "Bidirectional", "encoder", 2496, 1.2e-7, reads=(0,)),
        Row("", "Concat", "Concatenate", "concat", 0, 2.1e-7, reads=(0, 1)),
        Row(
            "head.0",
            "Linear",
            "Dense",
            "head_0",
            459,
            2.4e-6,
            reads=(2,),
            errors=dict.fromkeys(SIZES, 2.4e-6),
        ),
        Row("head.1", "Linear", "Dense", "head_0", 459, 3.1e-7, reads=(3,)),
        Row("head.1", "Reshape", "keras.ops", "", 0, reads=(4,)),
    ),
    checks=tuple(
        Check(leg, sizes, error, 1e-5)
        for sizes in SIZES
        for leg, error in ((TORCH_ORT, 1e-7), (ORT_KERAS, 2e-7))
    )
    + (Check(TORCH_KERAS, SIZES[0], 1.5e-15, 1e-10, "float64"),),
    variables=(
        Variable("encoder/kernel", (10, 52), True, "encoder.weight_ih_l0: o i -> i o", layer="encoder"),
        Variable("head_0/bias", (17,), False, "folded(head.0.bias)", one_way=True, layer="head_0"),
    ),
    source_parameters=3365,
    trainable=3365,
    non_trainable=12,
    transposes=2,
    custom_layers=("projected",),
    custom_reasons={"projected": "bridge>Cell: A recurrent cell"},
    layers={"head_0": 'Dense(units=17, activation="relu")'},
    seconds={"export": 1.5, "build": 0.25},
    nodes={"export": 31, "build": 6},
)
FAILED = replace(
    REPORT,
    checks=(Check(ORT_KERAS, SIZES[1], 4e-3, 1e-5),),
    rows=(*REPORT.rows[:3], replace(REPORT.rows[3], error=3e-3)),
    outputs=(replace(REPORT.outputs[0], row=3),),
    first_mismatch="onnxruntime ↔ Keras differ by 0.004",
    origin=Origin(
        BUILD,
        "Linear",
        "linear_1",
        "head.0",
        "net.py:9",
        ("head_0",),
        SIZES[1],
        3e-3,
        1e-5,
        (Handed("concat", 2.1e-7),),
        alone=3e-3,
        rounding=1e-7,
        sensitivity=1e-6,
    ),
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
REFUSED = Report("net", refusals=("Loop at decoder <b>: no builder for this operator",))
PLANNED = Report("net", rows=(Row("conv", "Conv", "conv", "", 0),))
UNTRAINED = replace(REPORT, untrained=(Untrained("scale", 5, "Mul takes it as a constant"),))


def long(count: int, *, flat: bool = False) -> Report:
    """Of so many nodes, ten to a block, each block beside a skip; `flat` without modules."""
    rows, variables = [], []
    for place in range(count):
        block, part = divmod(place, 10)
        path = f"node_{place}" if flat else f"stages.{block // 25}.blocks.{block % 25}.{part}"
        skip = (place - 4,) if part == 9 else ()
        error = 10.0 ** -(6.2 + place * 7 % 10 / 5)
        shape, line = "(batch, 49, 96)", f"swin.py:{place}"
        named = path, "Linear", "Dense", f"dense_{place}", 9216
        rows.append(Row(*named, error, line, shape, (place - 1, *skip), dict.fromkeys(SIZES, error)))
        recipe = f"{path}.weight: o i -> i o"
        variables.append(Variable(f"dense_{place}/kernel", (96, 96), True, recipe, layer=f"dense_{place}"))
    calls = {row.name: 'Dense(units=96, activation="gelu")' for row in rows}
    return replace(REPORT, source="Swin", rows=tuple(rows), variables=tuple(variables), layers=calls)
