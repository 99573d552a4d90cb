"""Whether a checkpoint fits the run that wants to go on from it, told in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.redaction import redacted
from spectral_mlflow.settings import differences, parse

SHOWN = 4  # Differences that are told; a checkpoint of another model has hundreds.
HINT = "give a run its own checkpoints"


def check_settings(checkpoint: Mapping[str, Any], config: ExperimentConfig, may_differ: tuple[str, ...]) -> None:
    """Compare the settings in a checkpoint with those of the run.

    Args:
        checkpoint: its content.
        config: of the run.
        may_differ: beginnings of the dotted names that do not matter.

    Raises:
        UserError: which settings differ, by dotted names.
    """
    place = f"the checkpoint of step {checkpoint.get('step')}"
    try:
        then = parse(checkpoint["config"])
    except UserError as mistake:
        raise UserError(f"{place} has settings that this version does not know: {mistake}") from None
    now = parse(redacted(config.to_dict()))
    found = [
        f"{name} (checkpoint {old}, run {new})"
        for name, (old, new) in differences(then, now).items()
        if not name.startswith(may_differ)
    ]
    if found:
        raise UserError(f"{place} is of another configuration: {_shortened(found)}; {HINT}")


def check_tensors(place: str, saved: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> None:
    """Compare names and shapes of tensors.

    Args:
        place: what they are called together, for the message.
        saved: those of a checkpoint.
        here: those of the run.

    Raises:
        UserError: which tensors differ, and how.
    """
    found = [
        f"{name} {_shape(saved.get(name))} instead of {_shape(here.get(name))}"
        for name in {**here, **saved}
        if _shape(saved.get(name)) != _shape(here.get(name))
    ]
    if found:
        raise UserError(f"{place} of the checkpoint is that of another model: {_shortened(found)}; {HINT}")


def check_groups(saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Compare what two states of an optimizer are about.

    Raises:
        UserError: they have different groups of parameters, or are of different kinds.
    """
    then, now = ({name for group in state["param_groups"] for name in group} for state in (saved, here))
    if then - now and now - then:  # A later version of the same kind only adds some.
        raise UserError(
            "optimizer_state_dict of the checkpoint is that of another optimizer: it has "
            f"{', '.join(sorted(then - now))} instead of {', '.join(sorted(now - then))}; {HINT}"
        )
    sizes = [[len(group["params"]) for group in state["param_groups"]] for state in (saved, here)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"optimizer_state_dict of the checkpoint is that of another optimizer: groups of {sizes[0]} parameters "
            f"instead of {sizes[1]}; {HINT}"
        )


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else str(tuple(tensor.shape))


def _shortened(found: Sequence[str]) -> str:
    further = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + further
