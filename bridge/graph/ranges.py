"""Which sizes a free axis may have: `Range`; and those of a model's axes: `Ranges`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir


@dataclass(frozen=True)
class Range:
    """low, low + step, … up to high, or without end."""

    low: int = 1
    high: int | None = None
    step: int = 1

    def __contains__(self, size: int) -> bool:
        return (
            size >= self.low
            and (self.high is None or size <= self.high)
            and not (size - self.low) % self.step
        )

    def __and__(self, other: Range) -> Range:
        """The sizes in both, of which there has to be one."""
        step = math.lcm(self.step, other.step)
        start = max(self.low, other.low)
        steps = Range(self.low, None, self.step), Range(other.low, None, other.step)
        low = next(size for size in range(start, start + step) if all(size in part for part in steps))
        ends = [end for end in (self.high, other.high) if end is not None]
        return Range(low, min(ends, default=None), step)

    def covers(self, other: Range) -> bool:
        end, last = (math.inf if part.high is None else part.high for part in (self, other))
        return other.low in self and not other.step % self.step and last <= end

    def nearest(self, size: int) -> int:
        """The largest size in it that is not above, or the smallest."""
        size = size if self.high is None else min(size, self.high)
        return self.low + max(size - self.low, 0) // self.step * self.step

    def __str__(self) -> str:
        span = f"{self.low} or more" if self.high is None else f"{self.low} to {self.high}"
        return span if self.step == 1 else f"{span} in steps of {self.step}"


FREE = Range()


@dataclass(frozen=True)
class Ranges:
    """Of a model's free sizes, by name: those that its source runs at, and those outside of which the model raises."""

    told: Mapping[str, Range] = field(default_factory=dict)
    enforced: Mapping[str, Range] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ir.Model) -> Ranges:
        return model.meta.get("ranges") or cls()

    def enter(self, model: ir.Model) -> None:
        model.meta["ranges"] = self
