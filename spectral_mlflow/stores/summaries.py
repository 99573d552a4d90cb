"""What TensorBoard's plugins take, made with their own metadata; TensorFlow is not needed."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util.tensor_util import make_tensor_proto

from spectral_mlflow.settings import flatten
from spectral_mlflow.stores.reader import encodable

_HISTOGRAM = histogram_metadata.create_summary_metadata(display_name=None, description=None)
_IMAGE = image_metadata.create_summary_metadata(display_name=None, description=None)


def scalars(values: Iterable[tuple[str, float]]) -> Summary:
    """One value for each metric; NaN and infinities are kept.

    In single precision, which is all that TensorBoard shows: its fast loader leaves out whatever is double.
    """
    return Summary(value=[Summary.Value(tag=encodable(name), simple_value=float(value)) for name, value in values])


def text(name: str, content: str) -> Summary:
    """A text as it is: TensorBoard takes Markdown, in which indented lines are left alone."""
    lines = encodable(content).replace("\r", "").split("\n")
    return text_pb(name, "\n".join(f"    {line}" for line in lines))


def image(name: str, png: bytes) -> Summary:
    """A PNG file.

    Args:
        name: what it shows.
        png: the file.
    """
    width, height = struct.unpack(">II", png[16:24])  # The first chunk of every PNG begins with them.
    tensor = TensorProto(dtype=DT_STRING, string_val=[str(width).encode(), str(height).encode(), png])
    tensor.tensor_shape.dim.add(size=3)
    return Summary(value=[Summary.Value(tag=name, metadata=_IMAGE, tensor=tensor)])


def histograms(file: bytes) -> Summary:
    """One histogram for each parameter of a file that `spectral_mlflow.monitoring.histograms` wrote."""
    return Summary(
        value=[
            Summary.Value(tag=f"weights/{name}", metadata=_HISTOGRAM, tensor=_buckets(found["edges"], found["counts"]))
            for name, found in json.loads(file)["parameters"].items()
        ]
    )


def _buckets(edges: list[float], counts: list[float]) -> TensorProto:
    """Left edge, right edge and count of each bucket: [buckets, 3]."""
    return make_tensor_proto(np.array([edges[:-1], edges[1:], counts], dtype=float).T)


def session_start(config: Mapping[str, Any], name: str, seconds: float) -> Summary:
    """The settings of a run for the HParams page, by dotted name.

    Args:
        config: nested dictionaries.
        name: of the run.
        seconds: since the epoch.
    """
    plain = {encodable(key): _setting(value) for key, value in flatten(config).items()}
    return hparams_pb(plain, trial_id=encodable(name), start_time_secs=seconds)


def _setting(value: Any) -> bool | float | str:
    """A value of a kind that the page has; what a float cannot hold as text."""
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) <= sys.float_info.max):
        return value
    return encodable(value if isinstance(value, str) else json.dumps(value, default=str))


def session_end(*, finished: bool, seconds: float) -> Summary:
    """How a run ended, for the HParams page.

    Args:
        finished: whether it came to its end.
        seconds: since the epoch.
    """
    status = api_pb2.STATUS_SUCCESS if finished else api_pb2.STATUS_FAILURE
    ended = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=seconds)
    )
    about = hparams_metadata.create_summary_metadata(ended)
    return Summary(
        value=[
            Summary.Value(
                tag=hparams_metadata.SESSION_END_INFO_TAG, metadata=about, tensor=hparams_metadata.NULL_TENSOR
            )
        ]
    )
