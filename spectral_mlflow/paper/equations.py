"""The equations of the models, the optimizer, the loss and the statistics, by name, as TeX."""

from __future__ import annotations

# Adjacent letters are words in \text only: the PDF route reads everything else as mathematics.
_MODEL: dict[str, str] = {
    "objective": (
        r"L_{\text{CE}} = -\frac{1}{B T} \sum_{b=1}^{B} \sum_{p=0}^{T-1} \ln \, \Pr(x_{b,p+1} \mid x_{b,0}, \ldots,"
        r" x_{b,p})"
    ),
    "blocks": (
        r"\begin{aligned} x^{(0)}_p &= E_{v_p}(p), \\ y^{(l)} &= x^{(l-1)} +"
        r" \text{Attention}_l(\text{Norm}(x^{(l-1)})), \\ x^{(l)} &= y^{(l)} + F_l(\text{Norm}(y^{(l)})), \qquad l"
        r" = 1, \ldots, L \end{aligned}"
    ),
    "logits": (
        r"\Pr(x_{p+1} = v \mid x_0, \ldots, x_p) = \underset{v}{\text{softmax}} \left( W_{\text{head}} \,"
        r" \text{Norm}(x^{(L)}_p) \right)"
    ),
    "norm": r"\text{Norm}(x) = s \odot \frac{x - \bar{x}}{\sqrt{\frac{1}{D} \left|x - \bar{x}\right|^2 + \varepsilon}}",
    "angle": r"\theta_{v,w,h}(p) = 2 \pi h f_{v,w} + \varphi_{v,w} + \gamma_w p",
    "packet": (
        r"\text{wave}_v(p) = \sum_{w=1}^{W} \sum_{h=1}^{H} A_{v,w,h} \left[ \sin \theta_{v,w,h}(p) + \cos"
        r" \theta_{v,w,h}(p) \right] P_w"
    ),
    "mix": r"E_v(p) = r \, \text{wave}_v(p) + (1 - r) \, \text{lookup}_v, \qquad r = \frac{1}{1 + e^{-\rho}}",
    "start": (
        r"f_{v,w} \sim \text{U}[0, c), \qquad \varphi_{v,w} \sim \text{U}[0, 2 \pi c), \qquad A_{v,w,h} ="
        r" \frac{h^{-\kappa}}{\sqrt{\sum_{j=1}^{H} j^{-2 \kappa}}}, \qquad \gamma_w = \frac{\gamma_{\max}}{T^{(W -"
        r" w) / (W - 1)}}"
    ),
    "sums": (
        r"\begin{aligned} S_{v,w} &= \sum_{h=1}^{H} A_{v,w,h} \sin(2 \pi h f_{v,w} + \varphi_{v,w}), \\ C_{v,w} &="
        r" \sum_{h=1}^{H} A_{v,w,h} \cos(2 \pi h f_{v,w} + \varphi_{v,w}) \end{aligned}"
    ),
    "fast": (
        r"\text{wave}_v(p) = \sum_{w=1}^{W} \left[ (S_{v,w} + C_{v,w}) \cos(\gamma_w p) + (C_{v,w} - S_{v,w})"
        r" \sin(\gamma_w p) \right] P_w"
    ),
    "single": (
        r"\text{wave}_v(p) = \sqrt{2} \, \sum_{w=1}^{W} Z_{v,w} \sin \left( \gamma_w p + \delta_{v,w} +"
        r" \frac{\pi}{4} \right) P_w, \qquad Z_{v,w} \, e^{i \delta_{v,w}} = C_{v,w} + i \, S_{v,w}"
    ),
    "dot": r"a_{ij} = \underset{j \le i}{\text{softmax}} \left( \frac{q_i \cdot k_j}{\sqrt{D / n}} \right)",
    "heads": (
        r"\text{Attention}(x)_i = W_o \, \left[ \sum_{j \le i} a^{(1)}_{ij} u^{(1)}_j, \; \ldots, \; \sum_{j \le i}"
        r" a^{(n)}_{ij} u^{(n)}_j \right], \qquad u_j = W_u x_j"
    ),
    "interference": (
        r"a_{ij} = \underset{j \le i}{\text{softmax}} \, ( s_{ij} ), \qquad s_{ij} = \frac{\tau}{W} \sum_{w=1}^{W}"
        r" \cos(\varphi^q_{i,w} - \varphi^k_{j,w})"
    ),
    "features": (
        r"\sum_{w=1}^{W} \cos(\varphi^q_{i,w} - \varphi^k_{j,w}) = \sum_{w=1}^{W} \left( \cos \varphi^q_{i,w} \cos"
        r" \varphi^k_{j,w} + \sin \varphi^q_{i,w} \sin \varphi^k_{j,w} \right)"
    ),
    "concentration": r"a_{ij} \le \frac{1}{1 + (m - 1) \, e^{-2 \tau}}",
    "variance": (
        r"\text{Var} \, s_{ij} = \frac{\tau^2}{W^2} \sum_{w=1}^{W} \text{Var} \, \cos \Delta_w = \frac{\tau^2}{2 W}"
    ),
    "phasecoherence": (
        r"c_{ij} = \left| \frac{1}{W} \sum_{w=1}^{W} e^{i (\varphi^q_{i,w} - \varphi^k_{j,w})} \right| \ge"
        r" \frac{\left|s_{ij}\right|}{\tau}"
    ),
    "gelu": r"F(x) = W_2 \, s(W_1 x), \qquad s(z) = z \, \Phi(z)",
    "feedforward": r"F(x) = W_2 \, s(W_1 x), \qquad s(z) = \sin(z) + 0.1 \, z",
}

_TRAINING: dict[str, str] = {
    "adam": (
        r"\begin{aligned} m_t &= \beta_1 m_{t-1} + (1 - \beta_1) G_t, \qquad n_t = \beta_2 n_{t-1} + (1 - \beta_2)"
        r" G_t \odot G_t, \\ U_t &= \frac{m_t / (1 - \beta_1^t)}{\sqrt{n_t / (1 - \beta_2^t)} + \varepsilon}"
        r" \end{aligned}"
    ),
    "schedule": (
        r"\eta_t = \eta_{\max} \begin{cases} t / t_w & t < t_w \\ \mu + \frac{1 - \mu}{2} \left( 1 + \cos \left("
        r" \pi \, \frac{t - t_w}{t_{\text{end}} - t_w} \right) \right) & t \ge t_w \end{cases}"
    ),
    "resonance": (
        r"R_k = \sqrt{ \frac{\left|\mathcal{F} \Theta\right|_k}{\max_l \left|\mathcal{F} \Theta\right|_l} \cdot"
        r" \frac{\left|\mathcal{F} U\right|_k}{\max_l \left|\mathcal{F} U\right|_l} + \varepsilon }"
    ),
    "gate": r"g_k = 1 - \alpha + \alpha R_k, \qquad \alpha = \alpha_{0} \, \min(1, t / t_{0})",
    "update": (
        r"\Theta \leftarrow \Theta - \eta \, \text{Re} \, \mathcal{F}^{-1} (\mathcal{F} U \odot g) - \eta \lambda"
        r" \, \Theta"
    ),
    "rescale": (
        r"\tilde{U} = \frac{\left|U\right|}{\left|\mathcal{F}^{-1} (\mathcal{F} U \odot g)\right|} \,"
        r" \mathcal{F}^{-1} (\mathcal{F} U \odot g)"
    ),
    "bounds": (
        r"g_{\min} = 1 - \alpha + \alpha \sqrt{\varepsilon} \le g_k \le 1 - \alpha + \alpha \sqrt{1 + \varepsilon}"
        r" = g_{\max}"
    ),
    "turn": r"\cos \angle (U, \tilde{U}) \ge \frac{2 \sqrt{g_{\min} \, g_{\max}}}{g_{\min} + g_{\max}}",
    "spectra": (
        r"\hat{p}_{\omega v} = \sum_{t=0}^{T-1} \Pr(x_{t+1} = v) \, e^{-2 \pi i \omega t / T}, \qquad"
        r" \hat{y}_{\omega v} = \sum_{t=0}^{T-1} y_{t v} \, e^{-2 \pi i \omega t / T}, \qquad \omega = 0, \ldots,"
        r" \left\lfloor T / 2 \right\rfloor"
    ),
    "incoherence": (
        r"K = \frac{1}{N_\omega V} \sum_{\omega, v} \left|\hat{p}_{\omega v}\right| \, \left|\hat{y}_{\omega"
        r" v}\right| \left( 1 - \cos(\arg \hat{p}_{\omega v} - \arg \hat{y}_{\omega v}) \right)"
    ),
    "coherence": (
        r"K = \frac{1}{N_\omega V} \sum_{\omega, v} \left( \left|\hat{p}_{\omega v}\right| \, \left|\hat{y}_{\omega"
        r" v}\right| - \text{Re} \, \hat{p}_{\omega v} \overline{\hat{y}_{\omega v}} \right)"
    ),
    "parseval": (
        r"\sum_{\omega=0}^{T-1} \sum_{v} \text{Re} \, \hat{p}_{\omega v} \overline{\hat{y}_{\omega v}} = T"
        r" \sum_{t=0}^{T-1} \sum_{v} p_{t v} \, y_{t v} = T \sum_{t=0}^{T-1} \Pr(x_{t+1} \mid x_0, \ldots, x_t)"
    ),
    "qfe": r"L = L_{\text{CE}} + \lambda_{\text{QFE}} K",
}

_COSTS: dict[str, str] = {
    "embeddingparameters": (
        r"N^{\text{standard}}_{\text{emb}} = V D + T D, \qquad N^{\text{wave}}_{\text{emb}} = V W (H + 2) + W + W D"
        r" + V D + 1"
    ),
    "attentionparameters": (
        r"N^{\text{standard}}_{\text{att}} = 4 D^2, \qquad N^{\text{wave}}_{\text{att}} = 2 D^2 + 2 n W D + n"
    ),
    "flops": r"\text{FLOPs per token} = 6 \, (N - N_{\text{emb}}) + 6 \, T \sum_{l=1}^{L} (D + d_{\text{score}})",
}

_MEASURES: dict[str, str] = {
    "evaluation": (
        r"\ell = -\frac{1}{M} \sum_{i=1}^{M} \ln \, \Pr(x_{i+1} \mid x_{\le i}), \qquad \text{perplexity} ="
        r" e^{\ell}, \qquad \text{bits per token} = \frac{\ell}{\ln 2}"
    ),
    "interval": (
        r"\bar{d} \pm t_{0.975, \, n - 1} \, \frac{s_d}{\sqrt{n}}, \qquad d_i = \ell^{\text{wave}}_i -"
        r" \ell^{\text{standard}}_i"
    ),
    "hedges": (
        r"g = J \, \frac{\bar{d}}{\sqrt{(s_1^2 + s_2^2) / 2}}, \qquad J = \frac{\Gamma(\nu / 2)}{\sqrt{\nu / 2} \;"
        r" \Gamma((\nu - 1) / 2)}, \qquad \nu = n_1 + n_2 - 2"
    ),
    "holm": r"p^{\text{Holm}}_{(k)} = \max_{j \le k} \, \min \left( 1, \; (m - j + 1) \, p_{(j)} \right)",
    "tost": (
        r"p_{\text{eq}} = \max \left( \Pr \left( t_{\nu} \ge \frac{\bar{d} + \Delta}{\text{se}} \right), \; \Pr"
        r" \left( t_{\nu} \le \frac{\bar{d} - \Delta}{\text{se}} \right) \right)"
    ),
    "entropy": r"H_i = -\sum_{j \le i} a_{ij} \ln a_{ij}",
    "landscape": (
        r"f(a, b) = \ell(\theta + a \, d_1 + b \, d_2), \qquad d_{k,j} \leftarrow"
        r" \frac{d_{k,j}}{\left|d_{k,j}\right|} \left|\theta_{j}\right|"
    ),
}

EQUATIONS: dict[str, str] = _MODEL | _TRAINING | _COSTS | _MEASURES
