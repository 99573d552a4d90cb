"""A step of any optimizer, with any scheduler, at what rollbacks have left of the learning rate."""

from __future__ import annotations

from typing import Any, cast

from torch.optim.lr_scheduler import ReduceLROnPlateau

from spectral_mlflow.errors import UserError
from spectral_mlflow.training.state import TrainState
from spectral_mlflow.training.step import UPDATE_INTERVAL, update_ratio


def scheduled_step(state: TrainState) -> dict[str, float]:
    """Step the optimizer, then the scheduler.

    Returns:
        Now and then ``update/ratio``: how far the step went.

    Raises:
        UserError: the optimizer wants to compute the loss itself.
    """
    parameters = [parameter for parameter in state.model.parameters() if parameter.requires_grad]
    measures = bool(parameters) and state.step % UPDATE_INTERVAL == 0
    before = [parameter.detach().clone() for parameter in parameters] if measures else []
    groups = state.optimizer.param_groups
    scheduled = [group["lr"] for group in groups]
    for group in groups:
        group["lr"] = group["lr"] * state.lr_scale
    try:
        state.optimizer.step()
    except TypeError as failure:
        if "closure" not in str(failure):
            raise
        kind = type(state.optimizer).__name__
        raise UserError(f"{kind} computes the loss itself; take its step in your loop, and log its loss") from None
    finally:
        for group, lr in zip(groups, scheduled, strict=True):
            group["lr"] = lr
    if state.scheduler is not None and not isinstance(state.scheduler, ReduceLROnPlateau):
        cast(Any, state.scheduler).step()
    return {"update/ratio": update_ratio(before, parameters)} if before else {}
