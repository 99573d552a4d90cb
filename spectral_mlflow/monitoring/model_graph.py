"""The graph of a model as TensorBoard shows it, traced once and kept in a file for the stores."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file


def write_model_graph(model: torch.nn.Module, tokens: torch.Tensor, path: Path) -> Path:
    """Write the graph of a model; its mode and the random numbers to come stay as they are.

    Args:
        model: not a compiled one.
        tokens: an input, int64 [batch, time].
        path: the file, a serialized ``GraphDef``.

    Returns:
        The path.

    Raises:
        UserError: TensorBoard is not installed, or the model cannot be traced.
        OSError: the disk refuses.
    """
    modes = {module: module.training for module in model.modules()}
    devices = [tokens.device] if tokens.device.type == "cuda" else []
    with torch.random.fork_rng(devices), tempfile.TemporaryDirectory() as folder:
        model.eval()
        try:
            replace_file(path, _traced(model, tokens, folder))
        finally:
            for module, training in modes.items():
                module.training = training
    return path


def _traced(model: torch.nn.Module, tokens: torch.Tensor, folder: str) -> bytes:
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "monitoring.model_graph: TensorBoard is not installed; "
            "install it with: pip install 'spectral-mlflow[tensorboard]'"
        ) from None
    try:
        with warnings.catch_warnings(), torch.no_grad(), SummaryWriter(folder) as writer:
            warnings.simplefilter("ignore")  # Of tracing in general, which is on its way out in torch.
            writer.add_graph(model, tokens, use_strict_trace=False)
    except OSError:
        raise
    except Exception as failure:  # Whatever a model may raise under the tracer.
        reason = str(failure).strip().split("\n", 1)[0]
        raise UserError(f"monitoring.model_graph: the model cannot be traced: {reason}; set it to false") from failure
    events = [event for file in Path(folder).iterdir() for event in EventFileLoader(str(file)).Load()]
    return next(bytes(event.graph_def) for event in events if event.HasField("graph_def"))
