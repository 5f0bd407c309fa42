"""The stages of a conversion: what is told of them, the seconds each takes, and whose fault it is that one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from bridge.errors import BridgeError, SourceError
from bridge.graph.rewriting import all_nodes

if TYPE_CHECKING:
    from bridge.frontend.source import Source

STAGES = ("export", "simplify", "plan", "build", "compare")
Progress = Callable[[str], None]  # called with the name of each stage as it is entered


@dataclass
class Stopwatch:
    """Seconds spent in each stage; tells `progress` when one is entered. What goes wrong there unexpectedly becomes
    one of our errors: the source's fault where nothing runs it."""

    progress: Progress | None
    source: object
    opened: Source | None = None  # the same, as soon as it is read
    seconds: dict[str, float] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)  # of the graph, behind the stages that gave one

    @property
    def told(self) -> dict[str, dict[str, Any]]:
        """What a report says of the stages, by its fields."""
        return {"seconds": self.seconds, "nodes": self.nodes}

    def counted(self, stage: str, model: ir.Model) -> ir.Model:
        """`model`, which that stage gave, and whose nodes are counted."""
        self.nodes[stage] = len(all_nodes(model))
        return model

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run a part of `STAGES`."""
        if self.progress is not None:
            self.progress(name)
        start = time.perf_counter()
        try:
            yield
        except BridgeError:
            raise
        except Exception as error:
            raise self._at_fault(name, error) from error
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def _at_fault(self, stage: str, error: Exception) -> BridgeError:
        from bridge.faults import fault
        from bridge.verification.legal import why_never_run

        reason = why_never_run(self.source, self.opened)
        return fault(stage, error) if reason is None else SourceError(reason)
