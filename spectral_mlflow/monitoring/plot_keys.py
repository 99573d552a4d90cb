"""What the images of plots are called in the stores, in the order in which they are shown."""

from __future__ import annotations

# By the name of the plot's files; an image stands beside the charts of the same prefix.
KEYS = {
    "loss_curve": "training/loss_curve",
    "parameters": "training/parameters",
    "training_dynamics": "training/dynamics",
    "frequencies": "wave/frequencies",
    "frequency_evolution": "wave/frequency_evolution",
    "phases": "wave/phases",
    "harmonics": "wave/harmonics",
    "wave_packets": "wave/packets",
    "interference": "wave/interference",
    "wave_course": "wave/course",
    "attention_maps": "attention/maps",
    "phase_coherence": "attention/phase_coherence",
}


def key_of(name: str) -> str:
    """The image of the plot of this name; that of a further part of the model is named after it."""
    plot = max((plot for plot in KEYS if name == plot or name.startswith(f"{plot}_")), key=len, default=None)
    return f"plots/{name}" if plot is None else KEYS[plot] + name.removeprefix(plot)
