"""Which settings the loss of some runs hangs on: PED-ANOVA, as Optuna computes it.

Watanabe et al., "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces" (2023).
fANOVA would need scikit-learn besides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spectral_mlflow.analysis.comparison import COMPONENTS, LOSS, model_label, settings_of
from spectral_mlflow.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST_RUNS = 12
BEST = 0.25  # Share of the runs whose settings are held against those of all; a tenth of so few is one run.
SEED = "training.seed"
# They follow from other settings, or from the machine.
_DERIVED = ("model.type", "model.num_parameters", "dataset.num_tokens", "dataset.name", "dataset.path")


@dataclass(frozen=True)
class Share:
    """What of the loss hangs on some settings.

    Attributes:
        names: the settings; several where they only ever changed together.
        share: of 1, the shares of all settings that were varied.
    """

    names: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Importance:
    """What the settings of some runs matter.

    Attributes:
        shares: the largest first; none where nothing can be said.
        notes: why not, and what a reader has to know.
        runs: number of runs.
    """

    shares: tuple[Share, ...]
    notes: tuple[str, ...]
    runs: int


def importance(rows: Sequence[Mapping[Any, Any]]) -> Importance:
    """How much of being among the best quarter hangs on each setting that was varied, the seed included.

    The seed tells how large a share noise alone gets: settings below it cannot be told from noise.

    Args:
        rows: finished runs with a loss, as `finished` gives them.

    Raises:
        UserError: Optuna is not installed.
    """
    losses = [float(row[LOSS]) for row in rows]
    groups = _varied([_told_of(settings_of(row)) for row in rows])
    settings = [names for names in groups if names != (SEED,)]
    if len(rows) < FEWEST_RUNS:
        return Importance((), (f"importance of settings needs {FEWEST_RUNS} runs; there are {len(rows)}",), len(rows))
    if not settings:
        return Importance((), ("importance of settings needs a setting that was varied",), len(rows))
    if len(set(losses)) == 1:
        return Importance((), ("importance of settings needs losses that differ",), len(rows))
    shares = _ped_anova(groups, losses)
    return Importance(shares, tuple(_notes(shares)), len(rows))


def _told_of(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings, with the kind of a model of which no components are known, as it is another's."""
    known = all(f"model.{component}" in settings for component in COMPONENTS)
    return settings if known else {**settings, "model": model_label(settings)}


def _varied(settings: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], list[Any]]:
    """The settings that were varied, with their values by run; those that only ever changed together are one."""
    groups: dict[tuple[int, ...], list[str]] = {}
    values: dict[str, list[Any]] = {}
    for name in sorted({name for one in settings for name in one} - set(_DERIVED)):
        values[name] = [one.get(name) for one in settings]
        kinds = list(dict.fromkeys(values[name]))
        if len(kinds) > 1:
            groups.setdefault(tuple(kinds.index(value) for value in values[name]), []).append(name)
    return {tuple(names): values[names[0]] for names in groups.values()}


def _ped_anova(groups: Mapping[tuple[str, ...], Sequence[Any]], losses: Sequence[float]) -> tuple[Share, ...]:
    try:
        import optuna
    except ImportError:
        raise UserError(
            "importance of settings needs Optuna; install it with: pip install 'spectral-mlflow[analysis]'"
        ) from None
    known = {",".join(names): (names, *_distribution(values)) for names, values in groups.items()}
    distributions = {name: distribution for name, (_, distribution, _) in known.items()}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
        for place, loss in enumerate(losses):
            params = {name: values[place] for name, (_, _, values) in known.items()}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=loss))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(before)
    return tuple(Share(known[name][0], float(share)) for name, share in found.items())


def _distribution(values: Sequence[Any]) -> tuple[BaseDistribution, list[Any]]:
    """Where the values of a setting come from, and the values; numbers of one sign over magnitudes are logarithmic."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        low, high = float(min(values)), float(max(values))
        return FloatDistribution(low, high, log=low > 0 and high / low >= 10), [float(value) for value in values]
    texts = [str(value) for value in values]
    return CategoricalDistribution(list(dict.fromkeys(texts))), texts


def _notes(shares: Sequence[Share]) -> list[str]:
    noise = next((found.share for found in shares if SEED in found.names), None)
    notes = []
    if any(len(found.names) > 1 for found in shares):
        notes.append("settings in one row only ever changed together: their shares cannot be told apart")
    if not all(math.isfinite(found.share) for found in shares) or sum(found.share for found in shares) == 0:
        notes.append("no setting tells the best runs from the others")
    if noise is not None:
        notes.append(f"the seed gets {noise:.1%}: settings with a smaller share cannot be told from noise")
    return notes
