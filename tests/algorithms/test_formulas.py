"""The formulas of `docs/algorithms`, computed as they stand, against the recipes' own and numerical gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from modelry.core.recipes import get_recipe
from modelry.worker.recipes.building import build_network
from modelry.worker.recipes.network import Network
from modelry.worker.training.descent import learning_rate, make_optimizer

Array = NDArray[np.float64]
CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def numerical_gradient(loss: Callable[[Array], float], at: Array, epsilon: float = 1e-5) -> Array:
    """Central differences, one number after the other."""
    gradient = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        kept = at[place]
        at[place] = kept + epsilon
        above = loss(at)
        at[place] = kept - epsilon
        below = loss(at)
        at[place] = kept
        gradient[place] = (above - below) / (2 * epsilon)
    return gradient


def network_of(recipe: str, shape: tuple[int, ...], **params: Any) -> Network:
    return build_network(recipe, get_recipe(recipe).check(params), shape=shape, classes=3).double()


def sigmoid(values: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-values)))


def weights_of(module: nn.Module) -> dict[str, Array]:
    return {name: value.detach().numpy() for name, value in module.named_parameters()}


# Backpropagation


@pytest.mark.parametrize(
    ("recipe", "shape", "params"),
    [
        ("cnn", (8, 9, 2), {"channels": [3], "hidden": [5], "pooling": "max"}),
        ("cnn", (8, 9, 2), {"channels": [3], "hidden": [5], "pooling": "average"}),
        ("rnn", (5, 3), {"cell": "rnn", "hidden": 4, "layers": 2}),
        ("rnn", (5, 3), {"cell": "lstm", "hidden": 4, "layers": 2, "bidirectional": True}),
        ("rnn", (5, 3), {"cell": "gru", "hidden": 4, "layers": 1}),
    ],
)
def test_a_recipe_s_gradients_are_numerical_ones(
    recipe: str, shape: tuple[int, ...], params: dict[str, Any]
) -> None:
    network = network_of(recipe, shape, **params)
    rows = torch.from_numpy(random(4, *shape))
    labels = torch.tensor([0, 1, 2, 1])
    functional.cross_entropy(network(rows), labels).backward()
    for name, parameter in network.named_parameters():

        def loss(_: Array) -> float:
            with torch.no_grad():
                return float(functional.cross_entropy(network(rows), labels))

        # The array is the parameter's own memory.
        measured = numerical_gradient(loss, parameter.detach().numpy())
        assert parameter.grad is not None
        np.testing.assert_allclose(
            parameter.grad.numpy(), measured, rtol=1e-5, atol=1e-8, err_msg=name
        )


def test_a_dense_layer_and_softmax_with_cross_entropy_as_derived() -> None:
    u, weights, bias = random(6, 4), random(3, 4), random(3)
    labels = np.array([0, 2, 1, 1, 0, 2])
    z = u @ weights.T + bias
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    z_bar = (p - np.eye(3)[labels]) / len(labels)
    layer = nn.Linear(4, 3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
        layer.bias.copy_(torch.from_numpy(bias))
    rows = torch.from_numpy(u).requires_grad_()
    functional.cross_entropy(layer(rows), torch.from_numpy(labels)).backward()
    for one in (layer.weight, layer.bias, rows):
        assert one.grad is not None
    np.testing.assert_allclose(layer.weight.grad, z_bar.T @ u, **CLOSE)
    np.testing.assert_allclose(layer.bias.grad, z_bar.sum(0), **CLOSE)
    np.testing.assert_allclose(rows.grad, z_bar @ weights, **CLOSE)


# Descent


def by_hand(params: Mapping[str, Any], start: Array, gradients: list[Array]) -> Array:
    """The rules as the page writes them."""
    rate, decay, theta = params["learning_rate"], params["weight_decay"], start.copy()
    v, m, s = np.zeros_like(start), np.zeros_like(start), np.zeros_like(start)
    for t, gradient in enumerate(gradients, start=1):
        if params["optimizer"] == "sgd":
            v = params["momentum"] * v + gradient + decay * theta
            theta = theta - rate * v
            continue
        g = gradient
        if params["optimizer"] == "adamw":
            theta = theta - rate * decay * theta
        else:
            g = g + decay * theta
        m = 0.9 * m + 0.1 * g
        s = 0.999 * s + 0.001 * g**2
        theta = theta - rate * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
    return theta


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("optimizer", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0)]
)
def test_the_rules_of_descent(optimizer: str, momentum: float, decay: float) -> None:
    params = {
        "optimizer": optimizer,
        "learning_rate": 0.05,
        "momentum": momentum,
        "weight_decay": decay,
    }
    start, gradients = random(4, 3), [random(4, 3, seed=n) for n in range(1, 8)]
    weight = nn.Parameter(torch.from_numpy(start.copy()))
    rule = make_optimizer(params, [weight])
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient)
        rule.step()
    np.testing.assert_allclose(weight.detach(), by_hand(params, start, gradients), **CLOSE)


def test_adam_s_first_step_has_the_length_of_the_rate() -> None:
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    params = {"optimizer": "adam", "learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    weight.grad = torch.tensor([1e-3, -5.0, 400.0], dtype=torch.float64)
    make_optimizer(params, [weight]).step()
    np.testing.assert_allclose(weight.detach(), [-0.1, 0.1, -0.1], rtol=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle"])
def test_the_way_of_the_learning_rate(schedule: str) -> None:
    params = {"learning_rate": 2.0, "schedule": schedule, "warmup": 0.0}
    rates = [learning_rate(params, step, 100) for step in range(100)]
    if schedule == "one-cycle":
        assert rates[0] == pytest.approx(2.0 / 25)
        assert max(rates) == pytest.approx(2.0, rel=0.01)
        assert rates.index(max(rates)) == pytest.approx(30, abs=1)
        assert rates[-1] == pytest.approx(2.0 / 250_000)
        return
    done = np.arange(100) / 100
    shape = {"constant": 1 + 0 * done, "linear": 1 - done, "cosine": (1 + np.cos(np.pi * done)) / 2}
    np.testing.assert_allclose(rates, 2.0 * shape[schedule], atol=1e-12)


def test_the_variance_of_a_batch_s_gradient_falls_with_its_rows() -> None:
    """On a linear problem with many draws: 1/B."""
    dice = np.random.default_rng(3)
    x, y = dice.normal(size=20_000), dice.normal(size=20_000)
    gradients = -2 * (y - 0.5 * x) * x
    spread = {
        rows: gradients[: 20_000 // rows * rows].reshape(-1, rows).mean(1).var() for rows in (1, 10)
    }
    assert spread[1] / spread[10] == pytest.approx(10, rel=0.25)


# Convolution and pooling


def test_convolution_and_its_two_gradients() -> None:
    x, w, b = random(2, 6, 7), random(3, 2, 3, 3), random(3)
    y = np.zeros((3, 4, 5))
    y_bar = random(3, 4, 5, seed=1)
    w_bar, x_bar = np.zeros_like(w), np.zeros_like(x)
    for m, c, p, q in np.ndindex(w.shape):
        window = x[c, p : p + 4, q : q + 5]
        y[m] += w[m, c, p, q] * window
        w_bar[m, c, p, q] = (y_bar[m] * window).sum()
        x_bar[c, p : p + 4, q : q + 5] += y_bar[m] * w[m, c, p, q]
    y += b[:, None, None]
    layer = nn.Conv2d(2, 3, 3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
        layer.bias.copy_(torch.from_numpy(b))  # type: ignore[union-attr]
    picture = torch.from_numpy(x)[None].requires_grad_()
    answer = layer(picture)
    answer.backward(torch.from_numpy(y_bar)[None])
    np.testing.assert_allclose(answer[0].detach(), y, **CLOSE)
    np.testing.assert_allclose(layer.weight.grad, w_bar, **CLOSE)  # type: ignore[arg-type]
    np.testing.assert_allclose(picture.grad[0], x_bar, **CLOSE)  # type: ignore[index]


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_and_its_gradient(kind: str) -> None:
    x, y_bar = random(5, 7), random(2, 3, seed=1)
    y, x_bar = np.zeros((2, 3)), np.zeros_like(x)
    for i, j in np.ndindex(y.shape):
        four = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        if kind == "max":
            y[i, j] = four.max()
            p, q = np.unravel_index(four.argmax(), four.shape)
            x_bar[2 * i + p, 2 * j + q] = y_bar[i, j]
        else:
            y[i, j] = four.mean()
            x_bar[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = y_bar[i, j] / 4
    layer = nn.MaxPool2d(2) if kind == "max" else nn.AvgPool2d(2)
    picture = torch.from_numpy(x)[None, None].requires_grad_()
    answer = layer(picture)
    answer.backward(torch.from_numpy(y_bar)[None, None])
    np.testing.assert_allclose(answer[0, 0].detach(), y, **CLOSE)
    np.testing.assert_allclose(picture.grad[0, 0], x_bar, **CLOSE)  # type: ignore[index]


# Recurrent cells


def states_by_hand(cell: str, weights: dict[str, Array], x: Array) -> Array:
    """The last state, step by step as the page writes it."""
    w, r = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b, b2 = weights["bias_ih_l0"], weights["bias_hh_l0"]
    h = c = np.zeros(r.shape[1])
    for step in x:
        if cell == "rnn":
            h = np.tanh(w @ step + b + r @ h + b2)
        elif cell == "lstm":
            i, f, g, o = np.split(w @ step + b + r @ h + b2, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (xr, xz, xn), (hr, hz, hn) = np.split(w @ step + b, 3), np.split(r @ h + b2, 3)
            reset, keep = sigmoid(xr + hr), sigmoid(xz + hz)
            h = (1 - keep) * np.tanh(xn + reset * hn) + keep * h
    return np.asarray(h)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_cells_of_the_recipe(cell: str) -> None:
    network = network_of("rnn", (9, 3), cell=cell, hidden=5, layers=1)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    x = random(9, 3)
    h = states_by_hand(cell, weights_of(network.recurrent), x)  # type: ignore[arg-type]
    head = weights_of(network.classes)  # type: ignore[arg-type]
    answer = network(torch.from_numpy(x)[None])[0].detach()
    np.testing.assert_allclose(answer, head["weight"] @ h + head["bias"], **CLOSE)


def test_backpropagation_through_time_as_derived() -> None:
    layer = nn.RNN(3, 4, batch_first=True).double()
    x, h_bar = random(6, 3), random(4, seed=1)
    weights = weights_of(layer)
    w, r = weights["weight_ih_l0"], weights["weight_hh_l0"]
    states = [np.zeros(4)]
    for step in x:
        states.append(
            np.tanh(w @ step + r @ states[-1] + weights["bias_ih_l0"] + weights["bias_hh_l0"])
        )
    w_bar, r_bar, flowing = np.zeros_like(w), np.zeros_like(r), h_bar
    for t in range(len(x), 0, -1):
        delta = flowing * (1 - states[t] ** 2)
        w_bar += np.outer(delta, x[t - 1])
        r_bar += np.outer(delta, states[t - 1])
        flowing = r.T @ delta
    _, last = layer(torch.from_numpy(x)[None])
    last[0, 0].backward(torch.from_numpy(h_bar))
    np.testing.assert_allclose(layer.weight_ih_l0.grad, w_bar, **CLOSE)
    np.testing.assert_allclose(layer.weight_hh_l0.grad, r_bar, **CLOSE)


def reach(cell: str, scale: float, steps: int = 40) -> float:
    """How much of the last state's gradient comes back to the first step, against that of the last step."""
    network = network_of("rnn", (steps, 3), cell=cell, hidden=16, layers=1)
    recurrent = network.recurrent
    with torch.no_grad():
        for name, weight in recurrent.named_parameters():  # type: ignore[union-attr]
            if name.startswith("weight_hh") and cell == "rnn":
                weight.mul_(scale)
    rows = torch.from_numpy(random(8, steps, 3)).requires_grad_()
    network(rows).square().sum().backward()
    assert rows.grad is not None
    norms: Tensor = rows.grad.norm(dim=(0, 2))
    return float(norms[0] / norms[-1])


def test_gradients_vanish_in_a_plain_cell_and_not_in_an_lstm() -> None:
    # Singular values of 0.5: at least 2^-39 of it is lost on the way, and tanh takes more.
    assert reach("rnn", 0.5) < 2.0**-39
    assert reach("lstm", 1.0) > 1e4 * reach("rnn", 0.5)
    assert reach("rnn", 1.0) > 1e4 * reach("rnn", 0.5)


# Attention


def test_attention_and_its_gradients() -> None:
    queries, keys, values = (random(6, 4, seed=n) for n in (1, 2, 3))
    y_bar = random(6, 4, seed=4)
    scores = queries @ keys.T / 2.0
    a = np.exp(scores - scores.max(1, keepdims=True))
    a /= a.sum(1, keepdims=True)
    a_bar = y_bar @ values.T
    s_bar = a * (a_bar - (a_bar * a).sum(1, keepdims=True))
    q, k, v = (torch.from_numpy(one).requires_grad_() for one in (queries, keys, values))
    answer = functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]
    answer.backward(torch.from_numpy(y_bar))
    np.testing.assert_allclose(answer.detach(), a @ values, **CLOSE)
    np.testing.assert_allclose(v.grad, a.T @ y_bar, **CLOSE)  # type: ignore[arg-type]
    np.testing.assert_allclose(q.grad, s_bar @ keys / 2.0, **CLOSE)  # type: ignore[arg-type]
    np.testing.assert_allclose(k.grad, s_bar.T @ queries / 2.0, **CLOSE)  # type: ignore[arg-type]
