"""What builders promise by their form: signatures are ONNX's schemas."""

import inspect

import numpy as np
import onnx.defs
import pytest

from bridge.graph.decimals import number
from bridge.graph.functions import OPSET, functions
from bridge.ops import builders

BUILDERS = {f"{b.domain or 'onnx'}.{b.op_type}": b for b in builders()}
ONNX = {name: builder for name, builder in BUILDERS.items() if not builder.domain}
OURS = {name: builder for name, builder in BUILDERS.items() if builder.domain}
BODIES = {function.name: function for function in functions()}
AT_OPSET = {
    schema.name
    for schema in onnx.defs.get_all_schemas_with_history()
    if schema.domain == "" and schema.since_version <= OPSET
}
Option = onnx.defs.OpSchema.FormalParameterOption


def _schemas(op: str) -> tuple[onnx.defs.OpSchema, onnx.defs.OpSchema]:
    """At the opset inside (or the first that has the operator), and the newest: models of later opsets pass as well."""
    newest = onnx.defs.get_schema(op)
    return (onnx.defs.get_schema(op, OPSET) if op in AT_OPSET else newest), newest


@pytest.mark.parametrize("builder", ONNX.values(), ids=ONNX)
def test_inputs_are_the_schema_s(builder):
    inside, newest = _schemas(builder.op_type)
    assert len(builder.inputs) <= len(newest.inputs)
    assert all(formal.option is Option.Optional for formal in inside.inputs[len(builder.inputs) :])
    for parameter, formal in zip(builder.inputs, newest.inputs, strict=False):
        assert parameter.variadic == (formal.option is Option.Variadic), parameter.name
        if not parameter.variadic:
            assert parameter.optional == (formal.option is Option.Optional), parameter.name


@pytest.mark.parametrize("builder", ONNX.values(), ids=ONNX)
def test_attributes_are_the_schema_s(builder):
    """Names and defaults; one that a builder does not take, the plan refuses by name."""
    inside, newest = _schemas(builder.op_type)
    formal = newest.attributes | inside.attributes
    for name, default in builder.attributes.items():
        assert name in formal, name
        assert (default is inspect.Parameter.empty) == formal[name].required, name
        default = list(default) if isinstance(default, tuple) else default
        stated = formal[name].default_value
        if stated.type:
            stated = onnx.helper.get_attribute_value(stated)
            stated = stated.decode() if isinstance(stated, bytes) else stated
            assert default == (number(stated) if isinstance(stated, float) else stated), name
        elif not formal[name].required:
            assert default is None, name


@pytest.mark.parametrize("builder", OURS.values(), ids=OURS)
def test_our_operators_match_their_bodies(builder):
    """A variadic last parameter stands for what is left, such as the states of a recurrent layer."""
    body = BODIES[builder.op_type]
    fixed = [parameter for parameter in builder.inputs if not parameter.variadic]
    assert (
        len(fixed) <= len(body.input) if len(fixed) < len(builder.inputs) else len(fixed) == len(body.input)
    )
    attributes = {*body.attribute, *(attribute.name for attribute in body.attribute_proto)}
    assert set(builder.attributes) == attributes


def test_every_body_has_a_builder():
    assert set(BODIES) <= {builder.op_type for builder in OURS.values()}


def test_defaults_are_plain():
    """No default is an array or a mutable that one build could leave to the next."""
    for builder in BUILDERS.values():
        for name, default in builder.attributes.items():
            assert not isinstance(default, np.ndarray | list | dict), f"{builder.op_type}: {name}"
