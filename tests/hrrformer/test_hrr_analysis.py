"""What is asked of Hrrformer from inside: capacity beside theory, an attention taken apart,
structure and controls.
"""

import math

import pandas as pd
import pytest
import torch

from terminator.hrrformer import algebra, anatomy, capacity
from terminator.hrrformer.network import build

SIDE = 8


def network(seed=0, **changes):
    torch.manual_seed(seed)
    settings = {
        "length": SIDE * SIDE,
        "width": 16,
        "mlp_width": 8,
        "heads": 2,
        "layers": 2,
        "dropout": 0.3,
    }
    return build("image", **settings | changes)


def images(count=6, seed=0):
    return torch.randint(
        0, 256, (count, SIDE * SIDE), generator=torch.Generator().manual_seed(seed)
    )


# -- capacity --------------------------------------------------------------------------------------


def test_capacity_follows_theory():
    table = capacity.capacity_table([64, 256], [1, 4, 16], queries=800, items=256)
    known = table.dropna(subset="expected_cosine")
    assert len(known) == 12
    assert (known["cosine"] - known["expected_cosine"]).abs().max() < 0.04
    assert (known["noise"] * known["width"] ** 0.5 - 1).abs().max() < 0.02
    normal = known[known["width"] == 256]  # where the law of large numbers has begun
    assert (normal["accuracy"] - normal["expected_accuracy"]).abs().max() < 6


def test_the_exact_inverse_is_exact_for_one_pair_and_worse_for_many():
    table = capacity.capacity_table([64], [1, 8], queries=400, items=128).set_index(
        ["pairs", "arm"]
    )["cosine"]
    assert table[1, "raw, exact inverse"] == pytest.approx(1, abs=1e-3)
    assert table[1, "projected"] == pytest.approx(1, abs=1e-5)
    assert table[8, "raw, exact inverse"] < 0.8 * table[8, "raw, approximate inverse"]


def test_expected_accuracy_by_simulation():
    torch.manual_seed(0)
    cosine, width, items = 0.5, 64, 100
    right = cosine + math.sqrt((1 - cosine**2) / width) * torch.randn(20_000)
    found = (
        (right > (torch.randn(20_000, items - 1) / math.sqrt(width)).amax(1)).double().mean().item()
    )
    assert capacity.expected_accuracy(cosine, width, items) == pytest.approx(100 * found, abs=1)
    assert capacity.expected_accuracy(0, width, items) == pytest.approx(1, abs=0.01)  # 1 in 100
    assert capacity.expected_cosine(4, "projected") == 0.5
    assert capacity.expected_cosine(8, "raw, approximate inverse") == pytest.approx(1 / 3)
    assert math.isnan(capacity.expected_cosine(4, "raw, exact inverse"))


def test_pairs_held_stops_at_the_first_that_fails():
    table = pd.DataFrame(
        [
            {"arm": "a", "width": 16, "pairs": n, "accuracy": a}
            for n, a in ((1, 100), (2, 95), (4, 50), (8, 99))
        ]
        + [{"arm": "b", "width": 16, "pairs": 1, "accuracy": 10}]
    )
    assert capacity.pairs_held(table)[16].to_dict() == {"a": 2, "b": 0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: capacity.capacity_table([8], [0]), "pairs is 0; allowed: 1 to 1023"),
        (lambda: capacity.capacity_table([8], [16], items=16), "pairs is 16; allowed: 1 to 15"),
        (
            lambda: capacity.capacity_table([8], [1], ["best"]),
            "arm is 'best'; allowed: raw, approximate inverse; raw",
        ),
        (lambda: anatomy.row_contrast(torch.zeros(64), 1), "row is 1; allowed: 2 to 32"),
        (lambda: anatomy.row_contrast(torch.zeros(64), 33), "row is 33; allowed: 2 to 32"),
        (lambda: anatomy.anatomy(network(), images()[0], 2), "layer is 2; allowed: 0 to 1"),
        (
            lambda: anatomy.anatomy(network(mixer="fnet"), images()[0]),
            "layer 0 has no holographic attention",
        ),
        (
            lambda: anatomy.anatomy(network(mixer_options={"weights": "uniform"}), images()[0]),
            "with weights=softmax",
        ),
        (
            lambda: anatomy.structure_table({"a": network(length=60)}, images()[:, :60]),
            "length 60; allowed: square",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- inside an attention ---------------------------------------------------------------------------


def test_anatomy_is_the_attention_by_hand():
    net, tokens = network(), images()[0]
    found = anatomy.anatomy(net, tokens, layer=1)
    assert net.training  # as it was
    net.eval()
    with torch.no_grad():
        attention = net(tokens[None], return_parts=True).layers[1].attention
    key, query, value = attention.key[0], attention.query[0], attention.value[0]
    beta = algebra.superpose(key, value)
    assert torch.allclose(found.superposition, beta[:, 0], atol=1e-5)
    # values of hundreds
    assert torch.allclose(found.retrieved, algebra.unbind(beta, query), rtol=1e-4, atol=1e-3)
    cosine = algebra.cosine(value, algebra.unbind(beta, query))
    assert torch.allclose(found.cosine, cosine, atol=1e-5)
    assert torch.allclose(found.weight, cosine.softmax(-1) * SIDE * SIDE, atol=1e-4)
    assert found.weight.mean().item() == pytest.approx(1, abs=1e-5)


def test_a_memory_that_works_is_recognised():
    value = torch.eye(8)[None]
    table = anatomy.retrieval_table(
        anatomy.Anatomy(torch.zeros(1, 8), value, value + 0.1, torch.ones(1, 8), torch.ones(1, 8))
    )
    assert table["first"].tolist() == [100.0]
    assert table["chance"].tolist() == [12.5]
    assert table.loc[1, "own"] > 0.9 > 0.3 > table.loc[1, "other"]
    swapped = anatomy.Anatomy(
        torch.zeros(1, 8), value, value.flip(1), torch.ones(1, 8), torch.ones(1, 8)
    )
    assert anatomy.retrieval_table(swapped).loc[1, "first"] == 0
    random = anatomy.retrieval_table(anatomy.anatomy(network(), images()[0]))
    assert random["first"].max() < 50


def test_branch_numbers():
    net, tokens = network(), images()
    rows = pd.DataFrame(anatomy.branch_numbers(net, tokens)).pivot(
        index="block", columns="quantity", values="value"
    )
    net.eval()
    with torch.no_grad():
        layers = net(tokens, return_parts=True).layers
    assert rows["branch_ratio"].tolist() == [layer.branch_ratio for layer in layers]
    assert rows["weight_spread"].between(1, math.e**2).all()
    weight = layers[0].attention.weight
    assert rows.loc[1, "weight_spread"] == pytest.approx(
        (weight.amax(2) / weight.amin(2)).mean().item(), rel=1e-5
    )
    off = pd.DataFrame(anatomy.branch_numbers(network(mixer="none"), tokens))
    assert off["value"].tolist() == [0, 0]
    padded = torch.nn.functional.pad(images() % 200 + 1, (0, 3))
    text = network(length=SIDE * SIDE + 3, masking="released")
    assert math.isfinite(anatomy.branch_numbers(text, padded)[1]["value"])


# -- structure -------------------------------------------------------------------------------------


def test_row_contrast_sees_columns_and_nothing_in_noise_or_slopes():
    columns = torch.cos(2 * math.pi * torch.arange(SIDE) / SIDE).repeat(4 * SIDE)
    assert anatomy.row_contrast(columns, SIDE) > 1.5
    assert anatomy.row_contrast(torch.arange(256.0), 16) < 0.02
    torch.manual_seed(0)
    assert anatomy.row_contrast(torch.randn(50, 1024), 32).mean().abs() < 0.02
    assert anatomy.row_contrast(torch.ones(64), 8) == 0
    sequence = torch.randn(20).double()
    by_hand = [
        sum(
            (sequence[t] - sequence.mean()) * (sequence[t + lag] - sequence.mean())
            for t in range(20 - lag)
        )
        for lag in range(20)
    ]
    assert torch.allclose(anatomy.autocorrelation(sequence), torch.stack(by_hand) / by_hand[0])


def test_share_of_the_variance_that_position_explains():
    position, content = torch.randn(1, 2, 50).expand(400, -1, -1), torch.randn(400, 2, 50)
    assert torch.allclose(anatomy.position_share(position), torch.ones(2, dtype=torch.float64))
    assert anatomy.position_share(content).max() < 0.02
    both = anatomy.position_share(position + position.std() * content)
    assert torch.allclose(both, torch.full((2,), 0.5, dtype=torch.float64), atol=0.15)


def test_permuted_pixels_are_put_back():
    net, tokens = network(), images(80)
    plain = anatomy.weights_over(net, tokens)
    assert plain.shape == (80, 2, SIDE * SIDE)
    assert torch.allclose(plain.mean(-1), torch.ones(80, 2), atol=1e-4)
    order = torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(0))
    back = torch.argsort(order)
    # a network whose positions are permuted along sees the same picture
    other = network()
    other.position_embedding = net.position_embedding[order]
    assert torch.allclose(anatomy.image_weights(other, tokens, order), plain, atol=1e-4)
    table = anatomy.structure_table({"plain": net, "permuted": other}, tokens, {"permuted": order})
    columns = ["row_contrast", "position_share", "grey_correlation"]  # shuffled ones are drawn anew
    one, two = (
        table[table["network"] == name][columns].to_numpy() for name in ("plain", "permuted")
    )
    assert abs(one - two).max() < 1e-3
    assert not torch.equal(order, back)


def test_shuffled_images_keep_their_values_and_lose_their_rows():
    tokens = torch.arange(16).expand(500, -1)
    mixed = anatomy.shuffled(tokens)
    assert torch.equal(mixed.sort(1).values, tokens)
    assert (mixed.double().mean(0) - 7.5).abs().max() < 1
    assert torch.equal(anatomy.shuffled(tokens), mixed)


def test_content_makes_rows_that_shuffling_takes_away():
    """A network without positions: its map follows the pixels alone."""
    net = network()
    net.position_embedding = torch.zeros_like(net.position_embedding)
    columns = torch.where(torch.arange(SIDE * SIDE) % SIDE < SIDE // 2, 20, 200).expand(200, -1)
    table = anatomy.structure_table({"blind": net}, columns)
    assert table["row_contrast"].max() > 1.5
    assert table["row_contrast_shuffled"].abs().max() < 0.4


def test_position_similarity():
    torch.manual_seed(0)
    net = network(positions="learned", width=64)
    similarity = anatomy.position_similarity(net)
    assert torch.allclose(similarity.diagonal(), torch.ones(SIDE * SIDE, dtype=torch.float64))
    assert abs(anatomy.similarity_contrast(similarity, SIDE)) < 0.1
    with torch.no_grad():  # a column's positions alike
        net.position_embedding.copy_(torch.randn(SIDE, 64).repeat(SIDE, 1))
    learnt = anatomy.position_similarity(net)
    assert anatomy.similarity_contrast(learnt, SIDE) > 0.8
    assert anatomy.similarity_at_lags(learnt)[SIDE] == pytest.approx(1)
