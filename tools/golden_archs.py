"""Architectures for the golden cases: the search space's rules, a checker and a small sampler.

An architecture here is exactly what arch.json holds (a dict of plain lists), so what is written
and what is computed on cannot differ. Lengths are in the paper's words: N = space["unit"] channels,
D = depth_compression, G = an op's width, s = a block's bank size, all but N in units of N.
Source: Brock et al., "SMASH", ICLR 2018, section 3.1 and appendices A, B; always at budget
fraction f = 1. Not handled: perturbation, budget schedules, other f.
"""

import math
import random

V2_BODIES = [
    {"active": [True, False, False, False], "probability": 0.05},
    {"active": [True, False, True, False], "probability": 0.10},
    {"active": [True, True, False, False], "probability": 0.15},
    {"active": [True, True, True, False], "probability": 0.25},
    {"active": [True, True, True, True], "probability": 0.45},
]


def v1_space(**changes):
    """A tiny SMASHv1-like space: single banks, 3x3 kernels, one dilation, fixed expansion."""
    space = dict(
        unit=3, n_max=9, depth_compression=3, max_bank_size=1, kernels=[3], square_kernels=True,
        max_extent=9, groups=[1], bodies=[{"active": [True, False, False, False], "probability": 1.0}],
        expansion=4, expansion_fixed=True, depth=2, widening=2, encoding="paper",
    )
    return {**space, **changes}


def v2_space(**changes):
    """A tiny SMASHv2-like space."""
    space = dict(
        unit=4, n_max=16, depth_compression=2, max_bank_size=4, kernels=[3, 5, 7], square_kernels=False,
        max_extent=9, groups=[1, 2, 4], bodies=V2_BODIES,
        expansion=2, expansion_fixed=False, depth=2, widening=1, encoding="full",
    )
    return {**space, **changes}


# ------------------------------------------------------------------ derived sizes


def floor_to(x, multiple):
    return x // multiple * multiple


def widths(space):
    """k = N_max / N, the number of op widths and the height of c."""
    return space["n_max"] // space["unit"]


def max_dilation(space, kernel):
    """4 - (ks-1)/2 at extent 9: the spatial extent of a dilated kernel stays inside it."""
    return (space["max_extent"] - 1) // 2 - (kernel - 1) // 2


def channel_budget(space):
    """Channels entering each block, most channels leaving it, and its budget in slices."""
    base = 2 * space["unit"]
    r0 = base * space["widening"]
    enter = [r0]
    most = [enter[0] + 2 * r0]
    enter.append(floor_to(most[0] // 2, base))
    most.append(enter[1] + 2 * r0)
    enter.append(floor_to(most[1] // 2, base))
    most.append(4 * r0)
    per_slice = space["unit"] * space["depth_compression"]
    slices = [(enter[b] + space["depth"] * r0 * 2**b) // per_slice for b in range(3)]
    return enter, most, slices


def max_banks(space):
    """M: the number of read (and of write) channels of the encoding."""
    return max(channel_budget(space)[1]) // space["unit"]


def read_multiple(space, bank_size):
    """r: an op reads a multiple of r banks, so that it uses whole slices."""
    d = space["depth_compression"]
    return d // math.gcd(d, bank_size)


def op_slices(space, bank_size, op):
    return len(op["read"]) * bank_size // space["depth_compression"]


def block_input_channels(space, block_index, bank_size):
    """What the stem or a transition emits: whole banks only."""
    return floor_to(channel_budget(space)[0][block_index], bank_size * space["unit"])


def bank_count(space, block_index, bank_size):
    """Banks that start written, and all banks, at f = 1."""
    enter, most, _ = channel_budget(space)
    channels = bank_size * space["unit"]
    start = enter[block_index] // channels
    grown = start + space["depth"] * widths(space) // bank_size
    return start, min(grown, most[block_index] // channels)


def allowed_bank_sizes(space, block_index):
    sizes = []
    for s in range(1, space["max_bank_size"] + 1):
        start, _ = bank_count(space, block_index, s)
        whole_slices = s % space["depth_compression"] == 0 or start >= space["depth_compression"]
        if start >= 1 and whole_slices and s <= widths(space):
            sizes.append(s)
    return sizes


# ------------------------------------------------------------------ checker


def check_arch(arch):
    """Assert every rule of the search space; returns the number of slices used."""
    space = arch["space"]
    assert arch["schema"] == 1 and len(arch["blocks"]) == 3
    assert space["n_max"] % space["unit"] == 0
    total = 0
    for b, block in enumerate(arch["blocks"]):
        s = block["bank_size"]
        assert s in allowed_bank_sizes(space, b)
        start, n_banks = bank_count(space, b, s)
        assert block["n_banks"] == n_banks
        used = 0
        written = start  # banks are filled in order: written ones are always 0..written
        for op in block["ops"]:
            check_op(space, s, op, written, n_banks)
            written = max(written, 1 + max(op["write"]))
            used += op_slices(space, s, op)
        left = channel_budget(space)[2][b] - used
        assert 0 <= left, "over budget"
        smallest = read_multiple(space, s) * s // space["depth_compression"]
        assert left < smallest, "the block could take another op"
        total += used
    return total


def check_op(space, s, op, written, n_banks):
    read, write, width = op["read"], op["write"], op["width"]
    assert read == sorted(set(read)) and read and len(read) % read_multiple(space, s) == 0
    assert len(read) * s % space["depth_compression"] == 0
    assert all(0 <= m < written for m in read), "reads an empty bank"
    assert width % s == 0 and s <= width <= widths(space)
    groups_out = width // s
    assert len(set(write)) == len(write)
    assert groups_out <= len(write) <= max(written // 2, groups_out)
    fresh = sorted(m for m in write if m >= written)
    assert fresh == list(range(written, written + len(fresh))), "leaves a gap"
    assert len(fresh) <= groups_out and all(m < n_banks for m in write)
    assert [conv is not None for conv in op["body"]] in [x["active"] for x in space["bodies"]]
    for conv in filter(None, op["body"]):
        for kernel, dilation in zip(conv["kernel"], conv["dilation"]):
            assert kernel in space["kernels"]
            assert 1 <= dilation <= max_dilation(space, kernel)
        if space["square_kernels"]:
            assert len(set(conv["kernel"])) == len(set(conv["dilation"])) == 1
        assert conv["groups"] in space["groups"] and space["unit"] % conv["groups"] == 0


# ------------------------------------------------------------------ sampler


def draw_arch(space, rng, shuffled_writes):
    blocks = [draw_block(space, b, rng, shuffled_writes) for b in range(3)]
    return {"schema": 1, "space": space, "blocks": blocks}


def draw_block(space, block_index, rng, shuffled_writes):
    s = rng.choice(allowed_bank_sizes(space, block_index))
    written, n_banks = bank_count(space, block_index, s)
    left = channel_budget(space)[2][block_index]
    r = read_multiple(space, s)
    d = space["depth_compression"]
    ops = []
    while left >= r * s // d:
        counts = [n for n in range(r, written + 1, r) if n * s // d <= left]
        n_read = rng.choice(counts)
        read = sorted(rng.sample(range(written), n_read))

        width_choices = range(s, widths(space) + 1, s)
        width = rng.choices(width_choices, [1 / (0.01 + 10 * abs(g - n_read * s)) for g in width_choices])[0]

        groups_out = width // s
        empty = range(written, min(written + groups_out, n_banks))
        counts = range(groups_out, max(written // 2, groups_out) + 1)
        counts = [n for n in counts if n <= written + len(empty)]
        n_write = rng.choices(counts, [math.exp(-n) for n in counts])[0]
        targets = rng.sample([*range(written), *empty], n_write)
        old = [m for m in targets if m < written]
        write = old + list(range(written, written + n_write - len(old)))
        write = rng.sample(write, n_write) if shuffled_writes else sorted(write)

        body = draw_body(space, rng)
        ops.append({"read": read, "write": write, "width": width, "body": body})
        left -= n_read * s // d
        written += n_write - len(old)
    return {"bank_size": s, "n_banks": n_banks, "ops": ops}


def draw_body(space, rng):
    bodies = space["bodies"]
    active = rng.choices(bodies, [x["probability"] for x in bodies])[0]["active"]
    return [draw_conv(space, rng) if on else None for on in active]


def draw_conv(space, rng):
    axes = 1 if space["square_kernels"] else 2
    kernel = [rng.choice(space["kernels"]) for _ in range(axes)]
    dilation = [rng.randint(1, max_dilation(space, ks)) for ks in kernel]
    return {
        "kernel": kernel * (2 // axes),
        "dilation": dilation * (2 // axes),
        "groups": rng.choice(space["groups"]),
    }


def find_arch(space, seed, wanted, shuffled_writes=False):
    """The first architecture of a seeded stream that satisfies `wanted`, checked."""
    rng = random.Random(seed)
    for _ in range(200_000):
        arch = draw_arch(space, rng, shuffled_writes)
        if wanted(arch):
            check_arch(arch)
            return arch
    raise SystemExit(f"seed {seed}: no architecture with the wanted properties")


# ------------------------------------------------------------------ properties a case may ask for


def ops_of(arch):
    """(block, op) pairs in network order."""
    return [(block, op) for block in arch["blocks"] for op in block["ops"]]


def covers_all_bodies(arch):
    seen = {tuple(conv is not None for conv in op["body"]) for _, op in ops_of(arch)}
    return len(seen) == len(arch["space"]["bodies"])


def repeats_channel_groups(arch):
    """Some op writes more banks than it has channel groups: write j takes group j mod (G/s)."""
    return any(len(op["write"]) > op["width"] // block["bank_size"] for block, op in ops_of(arch))


def reads_a_sum(arch):
    """Some op reads a bank that two earlier ops of its block have written."""
    for block in arch["blocks"]:
        count = {}
        for op in block["ops"]:
            if any(count.get(m, 0) >= 2 for m in op["read"]):
                return True
            for m in op["write"]:
                count[m] = count.get(m, 0) + 1
    return False


def uses_small_kernels_and_groups(arch):
    convs = [conv for _, op in ops_of(arch) for conv in op["body"] if conv]
    largest = max(arch["space"]["kernels"])
    return (
        any(max(conv["kernel"]) < largest for conv in convs)
        and any(conv["kernel"][0] != conv["kernel"][1] for conv in convs)
        and any(conv["dilation"][0] != conv["dilation"][1] for conv in convs)
        and {conv["groups"] for conv in convs} == set(arch["space"]["groups"])
        and {ks for conv in convs for ks in conv["kernel"]} == set(arch["space"]["kernels"])
    )


def drops_leftover_channels(arch):
    """Some block starts with fewer channels than in[b], as whole banks do not fill it."""
    enter = channel_budget(arch["space"])[0]
    return any(
        block_input_channels(arch["space"], b, block["bank_size"]) < enter[b]
        for b, block in enumerate(arch["blocks"])
    )


def shares_a_slice(arch):
    """Some slice carries two banks of more than one unit (s does not divide by D, s > 1)."""
    d = arch["space"]["depth_compression"]
    return any(block["bank_size"] > 1 and block["bank_size"] % d for block, _ in ops_of(arch))


def leaves_empty_banks(arch):
    """Some bank is never written, so it does not exist in the network."""
    return any(
        block["n_banks"] > 1 + max(m for op in block["ops"] for m in op["write"])
        for block in arch["blocks"]
    )
