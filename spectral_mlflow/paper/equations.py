"""The equations of the models, the optimizer and the loss, by name, as TeX."""

from __future__ import annotations

# Adjacent letters are words in \text only: the PDF route reads everything else as mathematics.
EQUATIONS: dict[str, str] = {
    "standard": r"E_v(p) = \text{lookup}_v + \text{position}_p",
    "angle": r"\theta_{v,w,h}(p) = 2 \pi h f_{v,w} + \varphi_{v,w} + \gamma_w p",
    "packet": (
        r"\text{wave}_v(p) = \sum_{w=1}^{W} \sum_{h=1}^{H} A_{v,w,h}"
        r" \left[ \sin \theta_{v,w,h}(p) + \cos \theta_{v,w,h}(p) \right] P_w"
    ),
    "mix": r"E_v(p) = r \, \text{wave}_v(p) + (1 - r) \, \text{lookup}_v, \qquad r = \frac{1}{1 + e^{-\rho}}",
    "sums": (
        r"\begin{aligned} S_{v,w} &= \sum_{h=1}^{H} A_{v,w,h} \sin(2 \pi h f_{v,w} + \varphi_{v,w}), \\"
        r" C_{v,w} &= \sum_{h=1}^{H} A_{v,w,h} \cos(2 \pi h f_{v,w} + \varphi_{v,w}) \end{aligned}"
    ),
    "fast": (
        r"\text{wave}_v(p) = \sum_{w=1}^{W}"
        r" \left[ (S_{v,w} + C_{v,w}) \cos(\gamma_w p) + (C_{v,w} - S_{v,w}) \sin(\gamma_w p) \right] P_w"
    ),
    "dot": r"a_{ij} = \underset{j \le i}{\text{softmax}} \left( \frac{q_i \cdot k_j}{\sqrt{D / n}} \right)",
    "phases": r"\varphi^q_i = W_q x_i, \qquad \varphi^k_j = W_k x_j",
    "interference": (
        r"a_{ij} = \underset{j \le i}{\text{softmax}}"
        r" \left( \frac{\tau}{W} \sum_{w=1}^{W} \cos(\varphi^q_{i,w} - \varphi^k_{j,w}) \right)"
    ),
    "features": (
        r"\sum_{w=1}^{W} \cos(\varphi^q_{i,w} - \varphi^k_{j,w}) ="
        r" \sum_{w=1}^{W} \left( \cos \varphi^q_{i,w} \cos \varphi^k_{j,w}"
        r" + \sin \varphi^q_{i,w} \sin \varphi^k_{j,w} \right)"
    ),
    "feedforward": r"F(x) = W_2 \, s(W_1 x), \qquad s(z) = \sin(z) + 0.1 \, z",
    "resonance": (
        r"R_k = \sqrt{ \frac{\left|\mathcal{F} \Theta\right|_k}{\max_l \left|\mathcal{F} \Theta\right|_l} \cdot"
        r" \frac{\left|\mathcal{F} U\right|_k}{\max_l \left|\mathcal{F} U\right|_l} + \varepsilon }"
    ),
    "gate": r"g_k = 1 - \alpha + \alpha R_k, \qquad \alpha = \alpha_{0} \, \min(1, t / t_{0})",
    "update": (
        r"\Theta \leftarrow \Theta - \eta \, \text{Re} \, \mathcal{F}^{-1} (\mathcal{F} U \odot g)"
        r" - \eta \lambda \, \Theta"
    ),
    "coherence": (
        r"K = \frac{1}{N_\omega V} \sum_{\omega, v} \left( \left|\hat{p}_{\omega v}\right| \,"
        r" \left|\hat{y}_{\omega v}\right|"
        r" - \text{Re} \, \hat{p}_{\omega v} \overline{\hat{y}_{\omega v}} \right)"
    ),
    "qfe": r"L = L_{\text{CE}} + \lambda_{\text{QFE}} K",
    "evaluation": (
        r"\ell = -\frac{1}{M} \sum_{i=1}^{M} \ln \, \Pr(x_{i+1} \mid x_{\le i}), \qquad \text{perplexity} = e^{\ell}"
    ),
}
