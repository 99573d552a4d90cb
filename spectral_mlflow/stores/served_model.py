"""The model as MLflow loads and serves it: models-from-code, so this file goes with the weights instead of a pickle.

MLflow runs a copy of it. What it needs of this package is imported when the weights are loaded, so
that logging a model costs no torch.
"""

from __future__ import annotations

from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class ServedModel(PythonModel):
    """Texts in, the same texts continued out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load weights and tokenizer."""
        from pathlib import Path

        from spectral_mlflow.text_model import TextModel

        self.text_model = TextModel.load(Path(context.artifacts["model"]))

    def predict(  # type: ignore[override]  # MLflow calls it without a context where it has no such argument.
        self, model_input: list[str], params: dict[str, Any] | None = None
    ) -> list[str]:
        """Continue each text.

        Args:
            model_input: the prompts.
            params: fields of `spectral_mlflow.sampling.Sampling`.

        Raises:
            MlflowException: a value that is not allowed; a server answers 400 with its line.
        """
        from spectral_mlflow.errors import UserError
        from spectral_mlflow.sampling import Sampling

        given = dict(params or {})
        try:
            options = Sampling(**given | {"stop": tuple(given.get("stop") or ())})
            return [self.text_model.complete(prompt, options) for prompt in model_input]
        except UserError as mistake:
            raise MlflowException.invalid_parameter_value(str(mistake)) from None


set_model(ServedModel())
