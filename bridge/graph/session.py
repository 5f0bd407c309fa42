"""onnxruntime as graphs are run by it here: on one thread of the processor, and nothing optimised unless that is asked
for."""

from __future__ import annotations

import functools
from typing import Any


def session(model: bytes, folder: str | None = None, optimized: bool = False) -> Any:
    """An `InferenceSession` of a serialised model, whose external data lie in `folder`; `optimized` as onnxruntime does
    when nobody asks. Raises `ImportError` where onnxruntime is not installed, and what it raises of a model that it
    refuses."""
    import onnxruntime

    return onnxruntime.InferenceSession(
        model, _options(folder, optimized), providers=["CPUExecutionProvider"]
    )


@functools.lru_cache(maxsize=8)
def _options(folder: str | None, optimized: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_prepacking", "1")  # which copies every weight
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False  # memory goes back at once
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    return options
