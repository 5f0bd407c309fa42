"""Who may import what. Every import counts, those for type checking and those within functions too."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import bridge
from bridge.ops import builders

ROOT = Path(bridge.__file__).parent
# From the top: a line imports lines below it, what stands apart on a line not each other. A name covers its folder;
# `__init__` are the public names.
LAW = """
    __main__
    cli | pytest_plugin
    testing | batch
    __init__
    diagnosis
    conversion | backend | handwritten
    converted
    serving | source
    summary | saving | stages | generation
    report
    verification | faults
    build
    plan
    ops
    frontend | passes | layers
    weights | files
    keras_memory | optimizers
    graph | keras_compat
    package | processes
    errors
"""
SANCTIONED = {  # a report prints and judges itself
    ("report.report", f"report.{form}") for form in ("text", "html", "markdown", "verdict")
}
FRAMEWORKS = {
    "torch": "frontend.source frontend.torch.* files.checkpoints weights.moments weights.tensors weights.weight_map handwritten.* keras_compat "
    "verification.bisect.seen_by_torch verification.training.*",
    "onnxscript": "frontend.source frontend.torch.*",
    "onnxruntime": "graph.session",
    "keras": "testing layers.* optimizers.* ops.* build.* keras_compat keras_memory files.keras_file saving serving.* source.* summary generation backend conversion converted "
    "verification.bisect.nodes verification.bisect.saved verification.doubt.alone verification.nodes verification.outputs "
    "verification.pieces verification.runners verification.saved verification.training.* verification.verify",
    "jax": "keras_compat",
    "distributed": "batch.executors",
    "ray": "batch.executors",
    "tensorflow": "keras_compat keras_memory serving.*",
    "openvino": "serving.as_openvino",
    "ai_edge_litert": "serving.as_litert",
    "sympy": "graph.shapes frontend.torch.ranges passes.infer_shapes passes.normal_form passes.*_shapes ops.dims "
    "verification.inputs.requirements verification.inputs.sizes",
    "safetensors": "files.checkpoints",
    "h5py": "files.keras_file",
    "google": "frontend.onnx.read",
    "click": "cli.*",
    "rich": "cli.console cli.zoo report.text",
    "jinja2": "report.html",
}
PRIVATES = {  # what of others a module reads although they keep it to themselves: `_name`, and Keras's source
    "keras_compat": "*",
    "keras_memory": "*",
    "graph.shapes": "_expr",
    "passes.infer_shapes": "_context",
    "passes.broadcast_shapes": "_broadcast _broadcast_dim",
    "frontend.torch.pt2": "_package",
    "frontend.torch.*": "_pytree",
    "frontend.torch.widened": "_python_dispatch",
    "frontend.torch.attention": "_parameters _qkv_same_embed_dim",
    "frontend.torch.examples": "_check",
    "frontend.torch.patches": "_VF _SpectralNorm _check",
    "frontend.torch.norms": "_u _v",
    "frontend.torch.refusals": "_update_var_to_range",
    "frontend.torch.registry": "_constants _export _internal _materialize_cpp_cia_ops _opset_version _registration",
    "frontend.torch.untranslated": "_dispatching _internal",
    "verification.*": "_BatchNorm _InstanceNorm _VF _python_dispatch _pytree _schema",
}


def _named(path: Path) -> str:
    """The module in a file, below `bridge`: "graph.axes"; a package by its `__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {_named(path): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
LINES = [line.split(" | ") for line in LAW.strip().splitlines()]
PLACES = {room.strip(): place for place, rooms in enumerate(LINES) for room in rooms}


def _imports(tree: ast.Module) -> Iterator[str]:
    """The full names that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call) and ast.unparse(node.func) == "imported"
        ):  # from `errors`, with the name
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def _module(name: str) -> str | None:
    """The module of ours that a full name stands in; None for other packages'."""
    package, *parts = name.split(".")
    if package != "bridge":
        return None
    for end in range(len(parts), 0, -1):
        for module in (".".join(parts[:end]), ".".join([*parts[:end], "__init__"])):
            if module in MODULES:
                return module
    return "__init__"


OURS = {
    name: {found for target in _imports(tree) if (found := _module(target)) and found != name}
    for name, tree in MODULES.items()
}


def _room(module: str) -> str:
    return module.partition(".")[0]


def _is_among(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_stands_below_it(module):
    room = _room(module)
    assert room in PLACES, f"{module} stands on no line of the law"
    for other in OURS[module]:
        assert _room(other) == room or PLACES[room] < PLACES.get(_room(other), -1), (
            f"{module} imports {other}"
        )


@pytest.mark.parametrize(("way", "other"), [("torch", "onnx"), ("onnx", "torch")])
def test_the_two_ways_in_know_nothing_of_each_other_nor_of_who_asks(way, other):
    apart = {f"frontend.{other}.*", "frontend.source", "frontend.asked"}
    taken = {
        (module, found)
        for module in MODULES
        if module.startswith(f"frontend.{way}.")
        for found in OURS[module]
    }
    assert {pair for pair in taken if _is_among(pair[1], sorted(apart))} == set()


def test_every_line_of_the_law_is_there():
    assert {_room(module) for module in MODULES} == set(PLACES)


def test_nothing_imports_in_a_circle():
    left = {module: {(module, other) for other in others} - SANCTIONED for module, others in OURS.items()}
    while free := {module for module, pairs in left.items() if all(other not in left for _, other in pairs)}:
        left = {module: pairs for module, pairs in left.items() if module not in free}
    assert not left, f"circles among {', '.join(left)}"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frameworks_stay_in_their_rooms(framework):
    """And no room may import one that it does not."""
    users = {
        module for module, tree in MODULES.items() if framework in {n.split(".")[0] for n in _imports(tree)}
    }
    rooms = FRAMEWORKS[framework].split()
    assert {module for module in users if not _is_among(module, rooms)} == set()
    assert {room for room in rooms if not any(fnmatch(module, room) for module in users)} == set()


@pytest.mark.parametrize("module", MODULES)
def test_privates_of_others_have_a_home(module):
    names = [name for room, names in PRIVATES.items() if fnmatch(module, room) for name in names.split()]
    assert {name for name in _privates(MODULES[module]) if not _is_among(name, names)} == set()


def test_what_a_backend_needs_is_known_in_one_place():
    """Others say on which one they run."""
    asks = {module for module, tree in MODULES.items() if "keras.backend.backend()" in ast.unparse(tree)}
    assert asks == {"keras_compat", "conversion", "serving.saved_model", "summary"}


def _privates(tree: ast.Module) -> Iterator[str]:
    """What a module reads of others that begins with an underscore, and Keras's source."""
    for name in _imports(tree):
        if name.startswith("keras.src"):
            yield "keras.src"
        if not name.startswith(("bridge.", "__future__")):
            yield from (part for part in name.split(".") if _is_private(part))
    own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    read = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_private(node.attr)]
    own |= {node.attr for node in read if ast.unparse(node.value) in ("self", "cls")}
    operators = {
        id(node) for node in read if ast.unparse(node.value).endswith("aten")
    }  # of torch, by their names
    yield from (node.attr for node in read if node.attr not in own and id(node) not in operators)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


FAMILIES = {_module(builder.family) for builder in builders()}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_no_family_of_operators_imports_another(family):
    assert not OURS[family] & FAMILIES
