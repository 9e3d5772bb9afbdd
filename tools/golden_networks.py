"""The method's networks in plain PyTorch: encoding, HyperNet, SMASH network, resulting network.

Written from the paper for reference numbers: every step is a separate, obvious operation, in
float64, nothing is fused or cached. Tensors are NCHW, filters [out, in/groups, kh, kw].
Source: Brock et al., "SMASH", ICLR 2018, sections 3.1-3.3, appendices A, B. Not handled:
post-activation, gates, drawn nonlinearities, noise channel (options of the search space).
"""

import math

import torch
import torch.nn.functional as F

from golden_archs import (
    block_input_channels, channel_budget, max_banks, max_dilation, op_slices, widths,
)

BN_EPS = 1e-5
BN_MOMENTUM = 0.1
LEAKY_SLOPE = 0.02


def whole_filter_normalised(w):
    """Simplified weight norm: the norm is over the whole filter, there is no gain."""
    return w / w.pow(2).sum().sqrt()


def same_padding(kernel, dilation):
    return [(ks + (ks - 1) * (d - 1)) // 2 for ks, d in zip(kernel, dilation)]


# ------------------------------------------------------------------ encoding


def encode(arch):
    """c [E, k, slices] and each op's slice range [t0, t1), in op order; filled 1, empty 0."""
    space = arch["space"]
    facts = full_facts if space["encoding"] == "full" else paper_facts
    columns, ranges = [], []
    for b, block in enumerate(arch["blocks"]):
        for op in block["ops"]:
            t0 = len(columns)
            for slice_index in range(op_slices(space, block["bank_size"], op)):
                banks = banks_of_slice(space, block["bank_size"], op, slice_index)
                column = one_hot(banks, max_banks(space)) + one_hot(op["write"], max_banks(space))
                columns.append((op["width"], column + facts(space, b, op)))
            ranges.append((t0, len(columns)))
    c = torch.zeros(len(columns[0][1]), widths(space), len(columns), dtype=torch.float64)
    for t, (width, column) in enumerate(columns):
        c[:, :width, t] = torch.tensor(column, dtype=torch.float64)[:, None]
    return c, ranges


def banks_of_slice(space, bank_size, op, slice_index):
    """The banks whose units lie among the D units of one slice of the op's concatenated input."""
    d = space["depth_compression"]
    return [op["read"][unit // bank_size] for unit in range(slice_index * d, (slice_index + 1) * d)]


def one_hot(filled, length):
    return [1.0 if i in filled else 0.0 for i in range(length)]


def paper_facts(space, b, op):
    """Appendix B: after read and write, only the dilation (1..3) of the one convolution."""
    return one_hot([op["body"][0]["dilation"][0] - 1], 3)


def full_facts(space, b, op):
    """block 3, width k, dilation (conv, axis, value), kernel (conv, axis, value), active, groups."""
    dilations = range(1, 1 + max(max_dilation(space, ks) for ks in space["kernels"]))
    body = op["body"]
    facts = one_hot([b], 3) + one_hot([op["width"] - 1], widths(space))
    for key, values in (("dilation", list(dilations)), ("kernel", space["kernels"])):
        for conv in body:
            for axis in range(2):
                facts += one_hot([values.index(conv[key][axis])] if conv else [], len(values))
    facts += [1.0 if conv else 0.0 for conv in body]
    for conv in body:
        facts += one_hot([space["groups"].index(conv["groups"])] if conv else [], len(space["groups"]))
    return facts


# ------------------------------------------------------------------ HyperNet


def hyper_shapes(space, encoding_channels, hyper):
    """Name -> shape of every HyperNet filter."""
    shapes = {"hyper.stem.w": [hyper["stem"], encoding_channels, 3, 3]}
    channels = encoding_channels + hyper["stem"]
    for d, layers in enumerate(hyper["layers"]):
        for i in range(layers):
            shapes[f"hyper.dense{d}.{i}.w"] = [hyper["growth"], channels, 3, 3]
            channels += hyper["growth"]
        if d < 2:
            shapes[f"hyper.compress{d}.w"] = [channels // 2, channels]
            channels //= 2
    outputs = space["expansion"] * space["depth_compression"] * space["unit"] ** 2
    shapes["hyper.out.w"] = [outputs, channels]
    return shapes


def hypernet(params, c, hyper, watch=lambda x: None):
    """H(c): [R*D*N*N, k, slices] from c [E, k, slices]; `watch` sees every LeakyReLU's input."""

    def conv(x, name):
        w = whole_filter_normalised(params[name])
        return F.conv2d(x, w, padding=1) if w.dim() == 4 else F.conv2d(x, w[:, :, None, None])

    def act(x):
        watch(x)
        return F.leaky_relu(x, LEAKY_SLOPE)

    x = c[None]
    x = torch.cat([x, conv(x, "hyper.stem.w")], dim=1)
    for d, layers in enumerate(hyper["layers"]):
        for i in range(layers):
            x = torch.cat([x, conv(act(x), f"hyper.dense{d}.{i}.w")], dim=1)
        if d < 2:
            x = conv(act(x), f"hyper.compress{d}.w")
    return conv(act(x), "hyper.out.w")[0]


def generated_matrix(space, hyper_out):
    """W [slices*D*N, k*R*N]: W[t*D*N + i, h*R*N + o] = H_out[o*D*N + i, h, t]."""
    ins = space["depth_compression"] * space["unit"]
    outs = space["expansion"] * space["unit"]
    _, k, slices = hyper_out.shape
    by_unit = hyper_out.reshape(outs, ins, k, slices)  # o, i, h, t
    return by_unit.permute(3, 1, 2, 0).reshape(slices * ins, k * outs)


# ------------------------------------------------------------------ main network


class MainNet:
    """What both networks share: banks, ops, transitions, head. Subclasses say where weights come from.

    params: name -> tensor; running: batch norm name -> (mean, var), updated in training mode.
    closest_kink: smallest nonzero |x| / rms(x) over all inputs of a (leaky) ReLU in all
    forwards so far (0 if one was all zero), to choose well-conditioned cases.
    """

    def __init__(self, arch, params, running):
        self.arch, self.space = arch, arch["space"]
        self.params, self.running = params, running
        self.training = True
        self.closest_kink = math.inf

    def forward(self, x):
        """Logits [batch, classes] of images [batch, channels, size, size]."""
        self.begin()
        blocks = self.arch["blocks"]
        w = self.params["stem.w"][: self.entering(0)]
        x = F.conv2d(x, w, padding=3)
        for b, block in enumerate(blocks):
            x = self.block(b, block, x)
            if b < 2:
                x = self.transition(b, x)
        x = self.relu(self.batch_norm("head.bn", x)).mean(dim=(2, 3))
        return x @ self.params["head.fc.w"][:, : x.shape[1]].T + self.params["head.fc.b"]

    def entering(self, b):
        return block_input_channels(self.space, b, self.arch["blocks"][b]["bank_size"])

    def transition(self, t, x):
        """BN, ReLU, 1x1 convolution, 2x2 average pooling."""
        x = self.relu(self.batch_norm(f"transition{t}.bn", x))
        w = self.params[f"transition{t}.w"][: self.entering(t + 1), : x.shape[1]]
        return F.avg_pool2d(F.conv2d(x, w[:, :, None, None]), 2)

    def block(self, b, block, x):
        """x fills the first banks; returns all written banks, concatenated in index order."""
        s = block["bank_size"]
        channels = s * self.space["unit"]
        banks = dict(enumerate(x.split(channels, dim=1)))
        for i, op in enumerate(block["ops"]):
            x = torch.cat([banks[m] for m in op["read"]], dim=1)
            y = self.body(b, i, op, self.op_input(b, i, op, x))
            parts = y.split(channels, dim=1)
            for j, m in enumerate(op["write"]):
                part = parts[j % (op["width"] // s)]
                banks[m] = banks[m] + part if m in banks else part
        return torch.cat([banks[m] for m in sorted(banks)], dim=1)

    def body(self, b, i, op, h):
        """Two parallel paths, w0 w1 and w2 w3; each convolution is preceded by a ReLU."""
        first = [0, 2] if op["body"][2] else [0]
        paths = []
        for j in first:
            y = self.body_conv(b, i, op, j, h)
            if op["body"][j + 1]:
                y = self.body_conv(b, i, op, j + 1, self.before_second(b, i, j + 1, y))
            paths.append(y)
        return sum(paths)

    def body_conv(self, b, i, op, j, h):
        conv = op["body"][j]
        out_channels = op["width"] * self.space["unit"]
        w = self.body_filter(b, i, j, out_channels, h.shape[1] // conv["groups"], conv["kernel"])
        return F.conv2d(
            self.relu(h), w, groups=conv["groups"], dilation=conv["dilation"],
            padding=same_padding(conv["kernel"], conv["dilation"]),
        )

    def bottleneck(self, op, n_in):
        """n_b: output channels of the op's 1x1 convolution."""
        widest = self.space["expansion"] * op["width"] * self.space["unit"]
        return widest if self.space["expansion_fixed"] else min(n_in, widest)

    def relu(self, x):
        self.watch_kink(x)
        return F.relu(x)

    def watch_kink(self, x):
        # Exact zeros (a convolution over a patch that an earlier ReLU zeroed) are zero in any
        # arithmetic and pass no gradient to anything that is not itself masked: harmless.
        size = x.detach().abs()
        nearest = size[size > 0].min() / size.pow(2).mean().sqrt() if size.any() else torch.zeros(())
        self.closest_kink = min(self.closest_kink, nearest.item())

    def batch_norm(self, name, x):
        """Over the first channels of gamma, beta and running statistics (a slice in SMASH networks)."""
        n = x.shape[1]
        mean, var = self.running[name]
        gamma, beta = self.params[f"{name}.gamma"], self.params[f"{name}.beta"]
        return F.batch_norm(
            x, mean[:n], var[:n], gamma[:n], beta[:n],
            training=self.training, momentum=BN_MOMENTUM, eps=BN_EPS,
        )

    def begin(self):
        """Called once per forward."""

    def before_second(self, b, i, j, y):
        """Applied to the input of w1 and w3, before their ReLU."""
        return y


class SmashNet(MainNet):
    """1x1 weights from the HyperNet; body filters are windows of one shared set per block."""

    def __init__(self, arch, params, running, hyper):
        super().__init__(arch, params, running)
        self.hyper = hyper
        c, ranges = encode(arch)
        self.c = c.to(params["stem.w"].dtype)
        flat = [(b, i) for b, block in enumerate(arch["blocks"]) for i in range(len(block["ops"]))]
        self.slices_of = dict(zip(flat, ranges))

    def begin(self):
        self.hyper_out = hypernet(self.params, self.c, self.hyper, self.watch_kink)
        self.matrix = generated_matrix(self.space, self.hyper_out)

    def op_input(self, b, i, op, x):
        t0, t1 = self.slices_of[b, i]
        per_slice = self.space["depth_compression"] * self.space["unit"]
        n_b = self.bottleneck(op, x.shape[1])
        w = self.matrix[per_slice * t0 : per_slice * t1, :n_b].T  # [n_b, n_in]
        w = whole_filter_normalised(w)
        return F.conv2d(self.relu(x), w[:, :, None, None])

    def body_filter(self, b, i, j, out_channels, in_channels, kernel):
        w = self.params[f"block{b}.w{j}"]
        top, left = (w.shape[2] - kernel[0]) // 2, (w.shape[3] - kernel[1]) // 2
        return w[:out_channels, :in_channels, top : top + kernel[0], left : left + kernel[1]]


class ResultingNet(MainNet):
    """Every weight freely learned, exact sizes. variant: sandwich, full or weightnorm."""

    def __init__(self, arch, params, running, variant):
        super().__init__(arch, params, running)
        self.variant = variant

    def op_input(self, b, i, op, x):
        name = f"block{b}.op{i}"
        w = self.params[f"{name}.w_in"]
        if self.variant == "weightnorm":
            return F.conv2d(self.relu(x), whole_filter_normalised(w)[:, :, None, None])
        x = self.relu(self.batch_norm(f"{name}.bn_in", x))
        return self.batch_norm(f"{name}.bn_mid", F.conv2d(x, w[:, :, None, None]))

    def before_second(self, b, i, j, y):
        return self.batch_norm(f"block{b}.op{i}.bn{j}", y) if self.variant == "full" else y

    def body_filter(self, b, i, j, out_channels, in_channels, kernel):
        w = self.params[f"block{b}.op{i}.w{j}"]
        assert list(w.shape) == [out_channels, in_channels, *kernel]
        return w


# ------------------------------------------------------------------ parameter shapes


def batch_norm_shapes(name, channels):
    return {f"{name}.gamma": [channels], f"{name}.beta": [channels]}


def smash_shapes(arch, hyper, image_channels, classes):
    """Everything at the space's maximal size; an architecture uses slices and windows."""
    space = arch["space"]
    enter, most, _ = channel_budget(space)
    n_max, ks_max = space["n_max"], max(space["kernels"])
    shapes = {"stem.w": [enter[0], image_channels, 7, 7]}
    for b in range(3):
        for j in range(4):
            ins = n_max * (space["expansion"] if j % 2 == 0 else 1)
            shapes[f"block{b}.w{j}"] = [n_max, ins, ks_max, ks_max]
    for t in range(2):
        shapes |= batch_norm_shapes(f"transition{t}.bn", most[t])
        shapes[f"transition{t}.w"] = [enter[t + 1], most[t]]
    shapes |= batch_norm_shapes("head.bn", most[2])
    shapes |= {"head.fc.w": [classes, most[2]], "head.fc.b": [classes]}
    encoding_channels = encode(arch)[0].shape[0]
    return shapes | hyper_shapes(space, encoding_channels, hyper)


def resulting_shapes(arch, variant, image_channels, classes):
    """Exactly what the architecture uses."""
    space = arch["space"]
    net = MainNet(arch, {}, {})
    shapes = {"stem.w": [net.entering(0), image_channels, 7, 7]}
    for b, block in enumerate(arch["blocks"]):
        bank_channels = block["bank_size"] * space["unit"]
        for i, op in enumerate(block["ops"]):
            shapes |= op_shapes(net, f"block{b}.op{i}", op, len(op["read"]) * bank_channels, variant)
        banks = net.entering(b) // bank_channels
        banks = max([banks] + [1 + m for op in block["ops"] for m in op["write"]])
        leaving = banks * bank_channels
        if b < 2:
            shapes |= batch_norm_shapes(f"transition{b}.bn", leaving)
            shapes[f"transition{b}.w"] = [net.entering(b + 1), leaving]
    shapes |= batch_norm_shapes("head.bn", leaving)
    return shapes | {"head.fc.w": [classes, leaving], "head.fc.b": [classes]}


def op_shapes(net, name, op, n_in, variant):
    n_b, n_out = net.bottleneck(op, n_in), op["width"] * net.space["unit"]
    shapes = {f"{name}.w_in": [n_b, n_in]}
    if variant != "weightnorm":
        shapes |= batch_norm_shapes(f"{name}.bn_in", n_in) | batch_norm_shapes(f"{name}.bn_mid", n_b)
    for j, conv in enumerate(op["body"]):
        if conv:
            ins = (n_b if j % 2 == 0 else n_out) // conv["groups"]
            shapes[f"{name}.w{j}"] = [n_out, ins, *conv["kernel"]]
            if variant == "full" and j % 2 == 1:
                shapes |= batch_norm_shapes(f"{name}.bn{j}", n_out)
    return shapes
