"""HyperTransformer against numbers computed beforehand by an independent implementation."""

import pytest
import torch
import torch.nn.functional as F
from hypertransformer_tools import golden, model_of

from terminator.hypertransformer import (
    HyperTransformer,
    HyperTransformerSettings,
    allocation,
    tokens,
)
from terminator.hypertransformer.allocation import ConvWeights, HeadWeights
from terminator.hypertransformer.cnn import head_logits
from terminator.hypertransformer.features import LocalFeatures, SharedFeatures, fold
from terminator.hypertransformer.schedules import warmup_weights
from terminator.hypertransformer.transformer import Encoder, Sizes
from terminator.optim import decayed_rate


def close(ours, expected, tolerance):
    torch.testing.assert_close(ours, expected.to(ours.dtype), rtol=tolerance, atol=tolerance)


def test_output_allocation():
    case = golden("alloc_output")
    channels, size, e = (int(case[key]) for key in ("in_channels", "kernel_size", "embedding_dim"))
    out = int(case["out_channels"])
    block_size = allocation.output_block_size(channels, size, bias=True, bn=True)
    blocks = tokens.read_out(case["tokens"], out, e, block_size)
    made = allocation.allocate_output(blocks, channels, size, bias=True, bn=True)
    for ours, name in zip(made, ("kernel", "bias", "gamma", "beta")):
        assert torch.equal(ours, case[name]), name
    kernel_only = allocation.allocate_output(blocks[:, : channels * size**2], channels, size)
    assert torch.equal(kernel_only.kernel, case["kernel"])
    assert kernel_only[1:] == (None, None, None)
    port = allocation.allocate_output(blocks, channels, size, bias=True, bn=True, port=True)
    assert torch.equal(port.kernel, case["kernel_port"])


def test_spatial_allocation():
    case = golden("alloc_spatial")
    channels, out, size, e = (
        int(case[key]) for key in ("in_channels", "out_channels", "kernel_size", "embedding_dim")
    )
    blocks = tokens.read_out(case["tokens"], size**2, e, channels * out)
    assert torch.equal(
        allocation.allocate_spatial(blocks, channels, out, size).kernel, case["kernel"]
    )
    port = allocation.allocate_spatial(blocks, channels, out, size, port=True)
    assert torch.equal(port.kernel, case["kernel_port"])


@pytest.mark.parametrize(
    ("prefix", "flattens", "features"), [("flat", True, 12), ("gap", False, 3)]
)
def test_logits_allocation(prefix, flattens, features):
    case = golden("logits_alloc")
    blocks = tokens.read_out(
        case["tokens"], int(case["num_labels"]), int(case["embedding_dim"]), features + 1
    )
    head = allocation.allocate_logits(blocks)
    assert torch.equal(head.weight, case[f"{prefix}_weight"])
    assert torch.equal(head.bias, case[f"{prefix}_bias"])
    logits = head_logits(
        fold(case["activations"][None]), HeadWeights(head.weight[None], head.bias[None]), flattens
    )
    close(logits[0], case[f"{prefix}_logits"], 1e-6)


def test_tokens():
    case = golden("tokens")
    e, width = case["label_embeddings"].shape[1], case["sequence"].shape[1]
    assert width == e + int(case["weight_block_size"])
    samples = tokens.sample_tokens(
        case["label_embeddings"],
        case["labels"],
        case["local_features"],
        case["shared_features"],
        width=width,
    )
    placeholders = tokens.placeholder_tokens(case["weight_embeddings"], width)
    assert torch.equal(tokens.joint_sequence(placeholders, samples), case["sequence"])
    assert torch.equal(
        tokens.joint_key_mask(case["sample_mask"], len(placeholders)), case["key_mask"]
    )


def test_encoder():
    case = golden("encoder")
    key, value = len(case["layer1_query_bias"]), len(case["layer1_value_bias"])
    sizes = Sizes(case["x"].shape[1], key, value, len(case["layer1_ff1_bias"]))
    settings = HyperTransformerSettings(num_layers=2, heads=int(case["heads"]))
    encoder = Encoder(sizes, settings).double()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            _, index, *rest = name.split(".")
            rest = "_".join(part for part in rest if part not in ("attention", "mlp"))
            parameter.copy_(case[f"layer{int(index) + 1}_{rest}"])
    x, mask = case["x"][None], case["key_mask"][None]
    close(encoder.layers[0].attention(x, x, mask)[0], case["attention_layer1_masked"], 1e-5)
    close(encoder(x)[0], case["output"], 1e-5)
    close(encoder(x, mask.bool())[0], case["output_masked"], 1e-5)


@pytest.mark.parametrize(
    ("size", "convs", "port", "expected"),
    [
        (28, 2, False, "features28"),
        (7, 2, False, "features7"),
        (3, 2, False, "features3"),
        (1, 1, False, "features1_logits"),
        (28, 2, True, "features28_port"),
        (3, 2, True, "features3_port"),
    ],
)
def test_local_features(size, convs, port, expected):
    case = golden("local_features")
    extractor = LocalFeatures(2, 4, size, convs=convs, port=port).double()
    with torch.no_grad():
        for i, conv in enumerate(extractor.convs, 1):
            name = (
                "conv1_weight_1x1"
                if size == 1
                else f"conv{i}_weight{'_port' if port and i == 2 else ''}"
            )
            conv.weight.copy_(case[name])
            conv.bias.copy_(case[f"conv{i}_bias"])
    close(extractor(case[f"x{size}"]), case[expected], 1e-5)
    assert extractor.dim == case[expected].shape[1]


@pytest.mark.parametrize(
    ("expected", "bn", "padding", "eps", "relu"),
    [
        ("bn_same", True, "same", 1e-3, True),
        ("plain_same", False, "same", 1e-3, True),
        ("bn_valid", True, "valid", 1e-3, True),
        ("port_bn_same", True, "same", 1e-5, False),
        ("port_plain_same", False, "same", 1e-5, False),
    ],
)
def test_shared_features(expected, bn, padding, eps, relu):
    case = golden("shared_features")
    extractor = SharedFeatures(1, 5, 3, bn, padding, 28, eps, relu).double()
    with torch.no_grad():
        for i, conv in enumerate(extractor.convs):
            conv.weight.copy_(case[f"conv{i + 1}"])
            conv.bias.copy_(case["conv_bias"][i])
        if bn:
            extractor.gamma.copy_(case["gamma"])
            extractor.beta.copy_(case["beta"])
    close(extractor(fold(case["images"][None]), 1)[0], case[expected], 1e-4)


@pytest.mark.parametrize(
    ("activation", "eps", "expected"),
    [
        ("relu", 1e-3, "logits_relu_eps1e3"),
        ("relu", 1e-5, "logits_relu_eps1e5"),
        ("lrelu", 1e-3, "logits_lrelu_eps1e3"),
    ],
)
def test_generated_cnn(activation, eps, expected):
    case = golden("cnn_forward")
    model = HyperTransformer(
        num_labels=5, default_num_channels=4, cnn_activation=activation, bn_eps=eps
    ).double()
    with torch.no_grad():
        for i, layer in enumerate(model.convs):
            layer.gamma[0].copy_(case["gamma"][i])
            layer.beta[0].copy_(case["beta"][i])
    images = case["images"][None]
    cnn = model.generate(images, torch.zeros(1, 6, dtype=torch.int64))
    cnn = cnn._replace(
        convs=tuple(ConvWeights(case[f"kernel{i}"][None]) for i in range(1, 5)),
        head=HeadWeights(case["head_weight"][None], case["head_bias"][None]),
    )
    blocks = model.activations(cnn, images)
    if expected == "logits_relu_eps1e3":
        close(blocks[0].abs().mean((0, 2, 3)), case["block1_mean_abs"], 1e-4)
        close(blocks[1][:2], case["block2"], 1e-4)
        close(blocks[2], case["block3"], 1e-4)
        close(blocks[3], case["block4"], 1e-4)
    close(model.classify(cnn, images)[0], case[expected], 1e-4)


@pytest.mark.parametrize("name", ["end2end", "end2end_spatial", "end2end_port"])
def test_end_to_end(name):
    case = golden(name)
    model = model_of(case)
    mask = case["support_mask"].bool()[None]
    output = model(
        case["support_images"][None], case["support_labels"][None], case["query_images"][None], mask
    )
    for i, weights in enumerate(output.cnn.convs, 1):
        close(weights.kernel[0], case[f"kernel{i}"], 1e-4)
    close(output.cnn.head.weight[0], case["head_weight"], 1e-4)
    close(output.cnn.head.bias[0], case["head_bias"], 1e-4)
    close(output.logits[0], case["logits"], 1e-4)
    if name == "end2end_port":  # its file has neither loss nor gradients
        return
    widths = [generator.sample_width for generator in generators(model)]
    assert widths == case["config"]["widths"]
    assert [generator.local.dim for generator in generators(model)] == case["config"]["local_dims"]
    for key, kind in (("key_query_dims", "query"), ("value_dims", "value")):
        found = [
            getattr(g.encoder.layers[0].attention, kind).out_features for g in generators(model)
        ]
        assert found == case["config"][key]
    loss = model.loss_terms(output, case["query_labels"][None])["cross_entropy"]
    close(loss, case["loss"], 1e-4)
    loss.backward()
    close(model.convs[0].generator.label_embeddings.grad, case["grad_gen1_label_embeddings"], 1e-4)
    close(model.head.generator.weight_embeddings.grad, case["grad_head_weight_embeddings"], 1e-4)


def test_end_to_end_in_single_precision():
    case = golden("end2end")
    output = model_of(case).float()(
        case["support_images"][None].float(),
        case["support_labels"][None],
        case["query_images"][None].float(),
        case["support_mask"].bool()[None],
    )
    close(output.logits[0], case["logits"], 2e-5)
    close(F.cross_entropy(output.logits[0], case["query_labels"]), case["loss"], 2e-5)


def generators(model):
    return [layer.generator for layer in model.convs] + [model.head.generator]


def test_schedules():
    case = golden("schedules")
    total, heads = int(case["warmup_steps"]), case["warmup_weights"].shape[1] - 1
    for step, weights, rate in zip(case["steps"].tolist(), case["warmup_weights"], case["lr_sgd"]):
        ours = warmup_weights(step, total, heads)
        close(torch.tensor(ours, dtype=torch.float64), weights, 1e-6)
        assert sum(weight > 1e-12 for weight in ours) <= 2
        found = decayed_rate(
            step, float(case["lr_base"]), float(case["lr_decay_rate"]), int(case["lr_decay_steps"])
        )
        assert found == pytest.approx(rate.item(), rel=1e-6)
