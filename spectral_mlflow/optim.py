"""Optimizers and the learning rate: AdamW, and resonant gradient descent (RGD)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from spectral_mlflow.config import TrainingConfig

BETAS = (0.9, 0.999)
EPS = 1e-8
FUSED = ("cpu", "cuda", "mps")  # Devices on which torch updates all parameters in one pass over memory.


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Learning rate of a step, counted from 1.

    It rises linearly to ``lr`` at ``warmup_steps``, then falls as a half cosine to ``min_lr_ratio * lr`` at ``steps``.
    """
    if step < config.warmup_steps:
        return config.lr * step / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    lowest = config.min_lr_ratio * config.lr
    return lowest + (config.lr - lowest) * (1 + math.cos(math.pi * progress)) / 2


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of a configuration for the parameters of a model.

    Weight decay acts on matrices: linear layers, lookup and position tables, and the wave projection, which is an
    embedding matrix like them. It does not act on one-dimensional parameters (norms, phase speeds, ratio, tau) nor on
    what a module lists as ``undecayed`` (frequencies, phases and amplitudes: zero means nothing special for them).
    RGD also asks which tables a module lists as ``vocabulary_tables``.
    """
    undecayed = _listed(model, "undecayed")
    tables = _listed(model, "vocabulary_tables")
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and name not in undecayed
        is_table = config.optimizer == "RGD" and name in tables
        groups.setdefault((decays, is_table), []).append(parameter)
    if config.optimizer == "AdamW":
        options = [_group(parameters, decays, config) for (decays, _), parameters in groups.items()]
        return torch.optim.AdamW(options, lr=config.lr, betas=BETAS, eps=EPS, fused=_fused(model.parameters()))
    return RGD(
        [
            {**_group(parameters, decays, config), "filter_rows": not is_table}
            for (decays, is_table), parameters in groups.items()
        ],
        lr=config.lr,
        strength=config.rgd_strength,
        warmup=config.rgd_warmup,
        preserve_norm=config.rgd_preserve_norm,
    )


def _group(parameters: list[Tensor], decays: bool, config: TrainingConfig) -> dict[str, Any]:
    return {"params": parameters, "weight_decay": config.weight_decay if decays else 0.0}


def _listed(model: nn.Module, attribute: str) -> set[str]:
    """Full names of the parameters that the modules of a model list under an attribute of their class."""
    return {
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        for name in getattr(type(module), attribute, ())
    }


class RGD(torch.optim.Optimizer):
    """Resonant gradient descent: AdamW whose update passes a gate where parameter and update resonate.

    Let u be the bias-corrected Adam direction of a parameter p, F the Fourier transform, and k a frequency. For
    tensors of two or more dimensions, viewed as a matrix of their first dimension by all others::

        rho_k = sqrt( |F p|_k / max |F p|  *  |F u|_k / max |F u|  +  eps )
        g     = 1 - alpha + alpha rho,       alpha = strength * min(1, t / warmup)
        p    <- p - lr * Re F^-1(F u * g) - lr * weight_decay * p

    Everything is real, so F is the one-sided transform. F is two-dimensional, except in groups with
    ``filter_rows=False``: rows of a table of the vocabulary stand in no order, so there it runs along the features.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decay of the averages of the gradient and of its square.
        eps: keeps both quotients finite.
        weight_decay: decoupled from the gradient (Loshchilov and Hutter 2019).
        strength: depth of the gate; 0 is AdamW.
        warmup: steps until the gate has its full depth.
        preserve_norm: rescale the gated update to the norm of u, so that the gate turns but does not shorten it.
        filter_rows: transform along rows too.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = BETAS,
        eps: float = EPS,
        weight_decay: float = 0.0,
        strength: float = 0.3,
        warmup: int = 100,
        preserve_norm: bool = True,
        filter_rows: bool = True,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "strength": strength,
            "warmup": warmup, "preserve_norm": preserve_norm, "filter_rows": filter_rows,
        }  # fmt: skip
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        updates = self._adam_directions(parameters, group)
        alike: dict[tuple[int, int, float], list[int]] = {}
        for index, parameter in enumerate(parameters):
            if parameter.ndim > 1:
                alpha = group["strength"] * min(1.0, self.state[parameter]["step"].item() / max(1, group["warmup"]))
                rows, columns = parameter.flatten(1).shape
                alike.setdefault((rows, columns, alpha), []).append(index)
        for (_, _, alpha), indices in alike.items():
            matrices = [tensors[index].flatten(1) for tensors in (parameters, updates) for index in indices]
            for index, update in zip(indices, _resonate(torch.stack(matrices), alpha, group), strict=True):
                updates[index] = update.view_as(parameters[index])
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])

    def _adam_directions(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Bias-corrected Adam directions u (Kingma and Ba 2015), the averages brought up to date.

        A step of AdamW from zero, with a learning rate of -1 and without decay, arrives at u.
        """
        states = [self._state_of(parameter) for parameter in parameters]
        fused = parameters[0].device.type == "cpu"  # A GPU's kernel would want the counts of steps there too.
        directions = [torch.zeros_like(parameter) for parameter in parameters]
        adamw(
            directions,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=fused, foreach=not fused,
            beta1=group["betas"][0], beta2=group["betas"][1], eps=group["eps"],
            lr=-1.0, weight_decay=0.0, amsgrad=False, maximize=False,
        )  # fmt: skip
        return directions

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def _fused(parameters: Iterable[Tensor]) -> bool:
    """Whether torch can update all of them in one pass over memory; ten times faster on a CPU."""
    return all(parameter.device.type in FUSED for parameter in parameters)


def _resonate(matrices: Tensor, alpha: float, group: dict[str, Any]) -> Tensor:
    """``Re F^-1(F u * g)`` of several parameters of one size, see `RGD`.

    Args:
        matrices: N parameters, then their N updates u (2 N, rows, columns).
        alpha: depth of the gate.
        group: options of the parameters.

    Returns:
        What the gate has let through (N, rows, columns).
    """
    dims = (1, 2) if group["filter_rows"] else (2,)
    updates = matrices.chunk(2)[1]
    spectra = torch.fft.rfftn(matrices, dim=dims)
    powers = spectra.real.square().addcmul_(spectra.imag, spectra.imag)
    powers /= powers.amax((1, 2), keepdim=True).clamp_min_(torch.finfo(powers.dtype).tiny)
    of_parameters, of_updates = powers.chunk(2)
    rho = of_parameters.mul_(of_updates).sqrt_().add_(group["eps"]).sqrt_()
    gate = rho.mul_(alpha).add_(1 - alpha)
    size = [updates.shape[dim] for dim in dims]
    gated: Tensor = torch.fft.irfftn(spectra.chunk(2)[1].mul_(gate), s=size, dim=dims)
    if group["preserve_norm"]:
        lengths, gated_lengths = (matrix.norm(dim=(1, 2), keepdim=True) for matrix in (updates, gated))
        gated *= lengths / gated_lengths.clamp_min_(torch.finfo(gated.dtype).tiny)
    return gated
