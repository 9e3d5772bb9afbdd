"""What built-in networks compute, from definitions in plain PyTorch: tests/golden/builtin.json.

Written from the papers, in float64, for tiny instances of every family. Parameters and images are no random numbers
but sines, so that nobody has to store them:

    parameter: 0.3 * sin(1.3 i + 0.7 k), i the place of an element, k the sum of the bytes of the parameter's name;
               1 + that for scales of BatchNorm
    images:    sin(0.9 i) in the order N, C, H, W; labels 0, 1, 2, ... modulo the classes

Stored are logits in training mode, the loss, the norm of its gradient for every parameter, and logits in evaluation
mode with the running statistics that this one pass left.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

CHANNELS, SIZE, CLASSES, BATCH = 3, 8, 5, 3


class Net:
    """Parameters by name, made when they are first asked for."""

    def __init__(self):
        self.params, self.running, self.train = {}, {}, True

    def param(self, name, *dims, offset=0.0):
        if name not in self.params:
            k = sum(name.encode())
            i = torch.arange(math.prod(dims), dtype=torch.float64)
            # Rounded to float32, as the engine has them.
            value = (offset + 0.3 * torch.sin(1.3 * i + 0.7 * k)).float().double().reshape(dims)
            self.params[name] = value.requires_grad_()
        return self.params[name]

    def conv(self, name, x, outputs, kernel, stride=1):
        dims = [outputs, x.shape[1]] + ([kernel, kernel] if kernel > 1 else [])
        w = self.param(f"{name}.w", *dims)
        return F.conv2d(x, w.reshape(outputs, x.shape[1], kernel, kernel), stride=stride, padding=kernel // 2)

    def bn(self, name, x):
        c = x.shape[1]
        gamma, beta = self.param(f"{name}.gamma", c, offset=1.0), self.param(f"{name}.beta", c)
        mean, var = self.running.setdefault(name, (torch.zeros(c).double(), torch.ones(c).double()))
        return F.batch_norm(x, mean, var, gamma, beta, self.train, 0.1, 1e-5)

    def classify(self, x):
        w, b = self.param("head.fc.w", CLASSES, x.shape[1]), self.param("head.fc.b", CLASSES)
        return F.linear(x.mean([2, 3]), w, b)


def wrn(net, x, depth, width):
    x = net.conv("stem.conv", x, 16, 3)
    for block in range(3):
        for unit in range((depth - 4) // 6):
            name, outputs = f"block{block}.unit{unit}", 16 * 2**block * width
            stride = 2 if block > 0 and unit == 0 else 1
            o = F.relu(net.bn(f"{name}.bn0", x))
            shortcut = x
            if x.shape[1] != outputs or stride != 1:
                shortcut = net.conv(f"{name}.shortcut", o, outputs, 1, stride)
            y = net.conv(f"{name}.conv0", o, outputs, 3, stride)
            x = shortcut + net.conv(f"{name}.conv1", F.relu(net.bn(f"{name}.bn1", y)), outputs, 3)
    return net.classify(F.relu(net.bn("head.bn", x)))


def resnet(net, x, depth):
    x = F.relu(net.bn("stem.bn", net.conv("stem.conv", x, 16, 3)))
    for block in range(3):
        for unit in range((depth - 2) // 6):
            name, outputs = f"block{block}.unit{unit}", 16 * 2**block
            stride = 2 if block > 0 and unit == 0 else 1
            y = F.relu(net.bn(f"{name}.bn0", net.conv(f"{name}.conv0", x, outputs, 3, stride)))
            y = net.bn(f"{name}.bn1", net.conv(f"{name}.conv1", y, outputs, 3))
            if stride == 2:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, outputs - x.shape[1]))
            x = F.relu(x + y)
    return net.classify(x)


def densenet(net, x, depth, growth, compressed):
    x = net.conv("stem.conv", x, 2 * growth if compressed else 16, 3)
    for block in range(3):
        for layer in range((depth - 4) // (6 if compressed else 3)):
            name = f"block{block}.layer{layer}"
            y = F.relu(net.bn(f"{name}.bn0", x))
            if compressed:
                y = F.relu(net.bn(f"{name}.bn1", net.conv(f"{name}.conv0", y, 4 * growth, 1)))
            x = torch.cat([x, net.conv(f"{name}.conv1", y, growth, 3)], 1)
        if block < 2:
            name = f"transition{block}"
            y = F.relu(net.bn(f"{name}.bn", x))
            outputs = x.shape[1] // 2 if compressed else x.shape[1]
            x = F.avg_pool2d(net.conv(f"{name}.conv", y, outputs, 1), 2)
    return net.classify(F.relu(net.bn("head.bn", x)))


def fractalnet(net, x, columns, blocks):
    def layer(x, block, column, count, outputs):
        name = f"block{block}.column{column}.layer{count[column]}"
        count[column] += 1
        return F.relu(net.bn(f"{name}.bn", net.conv(f"{name}.conv", x, outputs, 3)))

    def ends(x, block, column, count, outputs):
        """The values that meet at the end of f_{column + 1}: one of each of its columns."""
        last = layer(x, block, column, count, outputs)
        if column == 0:
            return [last]
        middle = join(ends(x, block, column - 1, count, outputs))
        return ends(middle, block, column - 1, count, outputs) + [last]

    def join(values):
        return sum(values) / len(values)

    for block in range(blocks):
        outputs = [64, 128, 256, 512, 512][block]
        x = F.max_pool2d(join(ends(x, block, columns - 1, [0] * columns, outputs)), 2)
    return net.classify(x)


CASES = {
    "wrn-10-2": lambda net, x: wrn(net, x, 10, 2),
    "wrn-16-1": lambda net, x: wrn(net, x, 16, 1),
    "resnet-14": lambda net, x: resnet(net, x, 14),
    "densenet-10-3": lambda net, x: densenet(net, x, 10, 3, False),
    "densenet-bc-16-3": lambda net, x: densenet(net, x, 16, 3, True),
    "fractalnet-3-2": lambda net, x: fractalnet(net, x, 3, 2),
}


def run(forward):
    net = Net()
    i = torch.arange(BATCH * CHANNELS * SIZE * SIZE, dtype=torch.float64)
    x = torch.sin(0.9 * i).float().double().reshape(BATCH, CHANNELS, SIZE, SIZE)
    logits = forward(net, x)
    loss = F.cross_entropy(logits, torch.arange(BATCH) % CLASSES)
    loss.backward()
    net.train = False
    evaluated = forward(net, x)
    return {
        "logits": logits.detach().flatten().tolist(),
        "loss": loss.item(),
        "gradients": {name: p.grad.norm().item() for name, p in net.params.items()},
        "parameters": sum(p.numel() for p in net.params.values()),
        "eval_logits": evaluated.detach().flatten().tolist(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    path = pathlib.Path(__file__).parent.parent / "tests/golden/builtin.json"
    path.write_text(json.dumps({name: run(forward) for name, forward in CASES.items()}, indent=1) + "\n")
