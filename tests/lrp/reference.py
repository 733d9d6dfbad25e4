"""Every rule again, slowly, in float64, straight from the formula: one output neuron at a time.

A layer is a list of its output neurons, each with the flat indices of its inputs and the weights on them. It is built
by walking over the kernel, not by any convolution of a library.
"""

import itertools
from dataclasses import dataclass

import numpy as np


@dataclass
class Neuron:
    """One output j: which inputs it reads (`sources`, flat), through which weights, with which bias."""

    sources: np.ndarray
    weights: np.ndarray
    bias: float


def convolution(weight, bias, size, stride, padding, dilation, groups):
    """Neurons of a convolution over inputs (C, H, W), in the order of the flattened outputs (D, h, w)."""
    outputs, per_group, kh, kw = weight.shape
    height, width = size
    rows = (height + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (width + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    neurons = []
    for d, row, column in itertools.product(range(outputs), range(rows), range(columns)):
        group = d // (outputs // groups)
        sources, weights = [], []
        for c, a, b in itertools.product(range(per_group), range(kh), range(kw)):
            y = row * stride[0] - padding[0] + a * dilation[0]
            x = column * stride[1] - padding[1] + b * dilation[1]
            if 0 <= y < height and 0 <= x < width:
                sources.append(((group * per_group + c) * height + y) * width + x)
                weights.append(weight[d, c, a, b])
        neurons.append(Neuron(np.array(sources, int), np.array(weights, float), float(bias[d])))
    return neurons, (outputs, rows, columns)


def fully_connected(weight, bias):
    """Neurons of a fully connected layer."""
    return [Neuron(np.arange(weight.shape[1]), w, float(b)) for w, b in zip(weight, bias, strict=True)]


def redistribute(neurons, x, relevance, share):
    """Sums share(x_i, w_i, b, sources) * R_j into the inputs, for every output j."""
    result = np.zeros_like(x)
    for neuron, r in zip(neurons, relevance, strict=True):
        np.add.at(result, neuron.sources, share(x[neuron.sources], neuron) * r)
    return result


def relative_epsilon(neurons, x, relative, bias="absorb"):
    """relative * sqrt(mean of z_j^2) over all outputs of a layer for one image."""
    sums = [(x[n.sources] * n.weights).sum() + kept(n.bias, bias) for n in neurons]
    return relative * np.sqrt(np.mean(np.square(sums)))


def sign(value):
    return 1.0 if value >= 0 else -1.0


def fraction(parts, whole):
    return parts / whole if whole != 0 else np.zeros_like(parts)


def kept(bias, treatment):
    return 0.0 if treatment == "ignore" else bias


def even(bias, treatment, inputs):
    """What each of so many inputs gets of a bias that is distributed."""
    return bias / inputs if treatment == "distribute" else 0.0


def epsilon(epsilon=0.01, bias="absorb"):
    def share(x, n):
        z = x * n.weights
        total = z.sum() + kept(n.bias, bias)
        taken = epsilon * sign(total)
        return fraction(z + even(n.bias + taken, bias, len(x)), total + taken)

    return share


def alpha_beta(beta=1.0, bias="absorb"):
    def share(x, n):
        z = x * n.weights
        up, down = np.maximum(z, 0), np.minimum(z, 0)
        b = kept(n.bias, bias)
        up_part, down_part = (even(part, bias, len(x)) for part in (max(b, 0), min(b, 0)))
        upper = fraction(up + up_part, up.sum() + max(b, 0))
        return (1 + beta) * upper - beta * fraction(down + down_part, down.sum() + min(b, 0))

    return share


def z_plus(bias="absorb"):
    def share(x, n):
        up, b = np.maximum(x * n.weights, 0), max(kept(n.bias, bias), 0)
        return fraction(up + even(b, bias, len(x)), up.sum() + b)

    return share


def gamma(gamma=0.25, bias="absorb"):
    def share(x, n):
        z = x * n.weights
        b = kept(n.bias, bias)
        favoured = np.maximum if z.sum() + b >= 0 else np.minimum
        parts = z + gamma * favoured(z, 0)
        b += gamma * favoured(b, 0)
        return fraction(parts + even(b, bias, len(x)), parts.sum() + b)

    return share


def flat():
    return lambda x, n: np.full(len(x), 1 / len(x))


def w_square():
    return lambda x, n: fraction(n.weights**2, (n.weights**2).sum())


def z_box(low, high):
    def share(x, n):
        parts = x * n.weights - low * np.maximum(n.weights, 0) - high * np.minimum(n.weights, 0)
        return fraction(parts, parts.sum())

    return share


def sign_rule(epsilon=0.01, bias="absorb"):
    def share(x, n):
        total = (x * n.weights).sum() + kept(n.bias, bias)
        taken = epsilon * sign(total)
        parts = np.where(x >= 0, 1.0, -1.0) * n.weights + even(n.bias + taken, bias, len(x))
        return fraction(parts, total + taken)

    return share


def gradient_times_input():
    return lambda x, n: x * n.weights


def gradient():
    return lambda x, n: n.weights


LINEAR = {
    "epsilon": epsilon,
    "alpha-beta": alpha_beta,
    "z-plus": z_plus,
    "gamma": gamma,
    "flat": flat,
    "w-square": w_square,
    "z-box": z_box,
    "sign": sign_rule,
    "gradient-times-input": gradient_times_input,
    "gradient": gradient,
}
"""Rule -> what makes share(x_i, neuron) from the rule's parameters, as configs name them."""


def lrn_window(k, shape, region, reach):
    """Flat indices of the window of k (k included) in an array (C, H, W); `reach` is how far back and on it goes."""
    channels, height, width = shape
    c, y, x = np.unravel_index(k, shape)
    back, on = reach
    if region == "across-channels":
        return [(j * height + y) * width + x for j in range(max(0, c - back), min(channels, c + on + 1))]
    return [
        (c * height + a) * width + b
        for a in range(max(0, y - back), min(height, y + on + 1))
        for b in range(max(0, x - back), min(width, x + on + 1))
    ]


def lrn_terms(x, size, alpha, beta, k0, region, reach):
    """For every output k: its window and the Taylor terms z_jk of [B16], the centre's term included.

    Where k0 + a x_k^2 is 0 there are none: they are all 0.
    """
    flat_x = x.ravel()
    a = alpha / (size if region == "across-channels" else size**2)
    k0 = k0 if region == "across-channels" else 1.0
    for k in range(flat_x.size):
        window = lrn_window(k, x.shape, region, reach)
        s = k0 + a * sum(flat_x[j] ** 2 for j in window)
        terms = []
        for j in window:
            if k0 + a * flat_x[k] ** 2 == 0:
                terms.append(0.0)
            elif j == k:
                terms.append(flat_x[k] * (k0 + a * flat_x[k] ** 2) ** -beta)
            else:
                terms.append(-2 * a * beta * flat_x[k] * flat_x[j] ** 2 * s ** (-beta - 1))
        yield k, np.array(window), np.array(terms)


def lrn(x, relevance, share, **parameters):
    """Sums share(terms) * R_k into the window of every output k."""
    result, flat_r = np.zeros(x.size), relevance.ravel()
    for k, window, terms in lrn_terms(x, **parameters):
        np.add.at(result, window, share(terms, int(np.flatnonzero(window == k)[0])) * flat_r[k])
    return result.reshape(x.shape)


def lrn_forward(x, size, alpha, beta, k0, region, reach):
    """y = x s^-beta, from the definition."""
    flat_x, result = x.ravel(), np.zeros(x.size)
    a = alpha / (size if region == "across-channels" else size**2)
    k0 = k0 if region == "across-channels" else 1.0
    for k in range(flat_x.size):
        squares = sum(flat_x[j] ** 2 for j in lrn_window(k, x.shape, region, reach))
        result[k] = flat_x[k] * (k0 + a * squares) ** -beta
    return result.reshape(x.shape)


def pool_windows(shape, kernel, stride, padding, ceil):
    """Flat input indices of every window of a pooling layer, with Caffe's ceil sizes and its clipped last window."""
    for channel, rows, columns in _placements(shape, kernel, stride, padding, ceil):
        yield [
            (channel * shape[1] + y) * shape[2] + x
            for y in rows if 0 <= y < shape[1]
            for x in columns if 0 <= x < shape[2]
        ]  # fmt: skip


def pool_sizes(shape, kernel, stride, padding, ceil):
    """Number of places of every window that lie in the image or its padding."""
    for _, rows, columns in _placements(shape, kernel, stride, padding, ceil):
        yield sum(y < shape[1] + padding for y in rows) * sum(x < shape[2] + padding for x in columns)


def _placements(shape, kernel, stride, padding, ceil):
    """Channel, rows and columns of every window, in the order of the flattened outputs."""
    channels, height, width = shape

    def count(length):
        span = length + 2 * padding - kernel
        number = (-(-span // stride) if ceil else span // stride) + 1
        return number - 1 if ceil and (number - 1) * stride >= length + padding else number

    for channel, row, column in itertools.product(range(channels), range(count(height)), range(count(width))):
        top, left = row * stride - padding, column * stride - padding
        yield channel, range(top, top + kernel), range(left, left + kernel)


def pool(x, relevance, windows, share, divisors=None):
    """Sums share(x of the window, its divisor) * R_j into every window; the divisor is its size if none is given."""
    flat_x, result = x.ravel(), np.zeros(x.size)
    windows = list(windows)
    divisors = [len(window) for window in windows] if divisors is None else divisors
    for window, divisor, r in zip(windows, divisors, relevance.ravel(), strict=True):
        np.add.at(result, window, share(flat_x[window], divisor) * r)
    return result.reshape(x.shape)


def winner(values, divisor):
    return np.eye(len(values))[int(np.argmax(values))]


def proportional(values, divisor):
    return fraction(values, values.sum())


def proportional_or_even(values, divisor):
    """As proportional, but a window that sums to 0 is shared evenly: biases are distributed."""
    return proportional(values, divisor) if values.sum() != 0 else np.full(len(values), 1 / len(values))


def mean_gradient(values, divisor):
    return np.full(len(values), 1 / divisor)


POOLING = {
    "max-pool": {"winner": winner, "average": proportional, "gradient": winner},
    "average-pool": {"proportional": proportional, "gradient": mean_gradient},
}
"""Kind -> rule -> share(values of a window, what their sum is divided by)."""
