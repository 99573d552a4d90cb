"""A short document with one of everything that a paper may have."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from spectral_mlflow.paper.bibliography import cite, citet, load, reference_list

KEYS = ["vaswani2017attention", "kingma2015adam", "welch1947generalization", "plate1995holographic"]
NUMBERS = {"eq": [1, 2, 4], "fig": [1, 2, 3, 5], "tab": [1, 2, 3]}  # One equation and one figure could not be made.

DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{0}pt" height="80pt" viewBox="0 0 {0} 80">'
    '<rect width="{0}" height="80" fill="#ccddee"/></svg>'
)


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, [":--"] * len(columns), *rows])


def write(folder: Path) -> Path:
    """Write the document and its figures into a folder."""
    figures = folder / "figures"
    figures.mkdir(parents=True)
    for name, width in (("wide", 460), ("small", 200), ("moving_strip", 460)):
        (figures / f"{name}.svg").write_text(DRAWING.format(width))
    frames = [Image.new("P", (40, 20), shade) for shade in (10, 200)]
    frames[0].save(figures / "moving.gif", save_all=True, append_images=frames[1:], duration=100)
    path = folder / "manuscript.md"
    path.write_text(text(), encoding="utf-8")
    return path


def text() -> str:
    """The Markdown."""
    works = load()
    run = ["R1", "without_feedforward", "1.6987", "`c270cf08b2364c3599b47387c5e707fa`", "`spectral train --seed 1`"]
    return rf"""# A Title with $x^2$, 5 % & a Colon: Long Enough for Two Lines

Made from 3 runs.

## Abstract

An abstract with {cite(KEYS[:1], works)}.

## 1. Introduction

As {citet(KEYS[1], works)} show {cite(KEYS[2:], works)}. See [Section 2.1](#21-equations),
[Appendix B](#appendix-b-more), [(1)](#eq-1), [(4)](#eq-4),
[Figure 3](#fig-3), [Figure 5](#fig-5) and [Table 2](#tab-2).
Letters: ≤ π 10⁻³ é “q” 日.

<script>alert(1)</script>

## 2. Method

### 2.1 Equations

<a id="eq-1"></a>

$$
\text{{wave}}_v(p) = \sum_{{w=1}}^{{W}} \sum_{{h=1}}^{{H}} A_{{v,w,h}} \left[ \sin \theta_{{v,w,h}}(p) +
\cos \theta_{{v,w,h}}(p) \right] P_w + \sum_{{w=1}}^{{W}} B_{{v,w}} Q_w \tag{{1}}
$$

which goes on, and

<a id="eq-2"></a>

$$
F(x) = W_2 \, s(W_1 x), \qquad s(z) = \sin(z) + 0.1 \, z, \qquad g_k = 1 - \alpha + \alpha R_k \tag{{2}}
$$

<a id="eq-4"></a>

$$
x = 1 \tag{{4}}
$$

```python
def resonance(weights: Tensor, update: Tensor, strength: float, warmup: int, step: int, epsilon: float) -> Tensor:
    return weights  # π
```

## 3. Results

<a id="tab-1"></a>*Table 1. One with `code_in` its caption.*

{table(["Test", "Difference", "Outcome"], [["`main.val_loss`", "-0.0123", "undecided"]])}

<a id="tab-2"></a>*Table 2. Every run.*

{table(["Run", "Cell", "Loss", "MLflow run", "Command"], [run] * 40)}

![Wide](figures/wide.svg)

<a id="fig-1"></a>*Figure 1. A wide one.*

![Small](figures/small.svg)

<a id="fig-2"></a>*Figure 2. A small one.*

> **Not measured.** Run `spectral train`.

<a id="fig-3"></a>*Figure 3. None.*

![Moving](figures/moving.gif)

<a id="fig-5"></a>*Figure 5. A moving one.*

## References

{reference_list(KEYS, works)}

## Appendix A. Runs

<a id="tab-3"></a>*Table 3. Settings.*

{table(["Setting", "Value"], [[f"`training.setting_{i}`", str(i)] for i in range(50)])}

## Appendix B. More

The end of `86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed`.
"""
