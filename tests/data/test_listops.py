"""ListOps: values, tokens, generator and baselines, against numbers computed beforehand and the
published procedure.
"""

import numpy as np
import pytest
import torch
from places import GOLDEN

from terminator.data import generated
from terminator.data.errors import DatasetCorrupt
from terminator.data.sequences import listops
from terminator.data.sequences.listops import decode, encode, evaluate
from terminator.data.sequences.settings import ListOpsSettings
from terminator.data.sequences.tokens import split_up
from terminator.runtime.settings import ConfigError

SHORT = ListOpsSettings(min_length=4, max_length=32, max_depth=4, max_arguments=4)


def test_values_and_lengths_of_the_golden_expressions():
    with np.load(GOLDEN / "hrrformer_listops.npz") as file:
        cases = list(
            zip(
                file["expression"].tolist(),
                file["value"].tolist(),
                file["length"].tolist(),
                strict=True,
            )
        )
    assert len(cases) == 180
    for expression, value, length in cases:
        assert evaluate(expression) == value
        ids = encode(expression)
        assert len(ids) == length
        assert max(ids) < listops.UNKNOWN
        assert decode(ids + bytes(3)) == expression


# released files: grouping, and a renamed bracket
@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7", 7),
        ("[MED 1 2 ]", 1),
        ("[MED 1 4 ]", 2),
        ("[MED 9 1 2 ]", 2),
        ("[SM 9 9 ]", 8),
        ("[MIN 3 [MAX 1 2 ] ]", 2),
        ("( ( ( [MAX 2 ) 9 ) ] )", 9),
        ("[MAX 2 9 X", 9),
    ],
)
def test_values(expression, value):
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "empty"),
        ("( )", "empty"),
        ("]", "token 1 closes a list that was never opened"),
        ("[MIN ]", r"token 2 closes \[MIN without arguments"),
        ("[MIN 1 2", "1 lists are never closed"),
        ("1 2", "ends with token 1, but 1 more follow"),
        ("[MIN 1 ] ]", "ends with token 3, but 1 more"),
        ("[MIN 1 10 ]", r"token 3 is '10'; allowed: 0 1"),
        ("[AVG 1 2 ]", r"token 1 is '\[AVG'"),
    ],
)
def test_what_is_no_expression_is_refused(expression, message):
    with pytest.raises(ValueError, match=message):
        evaluate(expression)


def test_unknown_tokens_have_an_id_of_their_own():
    assert list(encode("[AVG 0 ]")) == [listops.UNKNOWN, 1, 15]
    assert listops.VOCABULARY == 17


def test_full_size_trees_have_the_published_statistics():
    parts = [listops.make_part(ListOpsSettings(), number) for number in range(6)]  # 3,000 trees
    lengths = np.concatenate([np.diff(part["starts"]) for part in parts])
    labels = np.concatenate([part["labels"] for part in parts])
    assert lengths.min() > 500
    assert lengths.max() < 2000
    assert lengths.mean() == pytest.approx(1040, abs=30)  # 1,043 in the published procedure's
    assert np.median(lengths) == pytest.approx(960, abs=40)
    shares = np.bincount(labels, minlength=10) / len(labels)
    assert shares[0] == pytest.approx(0.18, abs=0.03)
    assert shares[9] == pytest.approx(0.17, abs=0.03)
    assert all(0.05 < share < 0.11 for share in shares[1:9])


def test_values_of_generated_trees_are_right_and_their_shape_is_as_asked():
    part = listops.make_part(SHORT, 0)
    for i in range(len(part["labels"])):
        expression = decode(part["ids"][part["starts"][i] : part["starts"][i + 1]].tobytes())
        assert evaluate(expression) == part["labels"][i]
        assert 4 < len(expression.split()) < 32
        depth = deepest = 0
        for word in expression.split():
            depth += word.startswith("[") - (word == "]")
            deepest = max(deepest, depth)
        assert deepest <= SHORT.max_depth - 1
    assert (listops.make_part(SHORT, 0)["ids"] == part["ids"]).all()
    assert listops.make_part(SHORT, 1)["ids"].tobytes() != part["ids"].tobytes()


def test_trees_are_distinct_and_more_of_them_leave_the_test_set_as_it_was():
    few = split_up(listops.generate(SHORT, 700), {"train": 600, "test": 100})
    many = split_up(listops.generate(SHORT, 1200), {"train": 1000, "val": 100, "test": 100})
    text = many["train"].texts[0]
    assert len({text[i] for i in range(len(text))}) == 1000
    assert list(many) == ["train", "val", "test"]
    for a, b in ((few["test"].texts[0], many["test"].texts[0]),):
        assert torch.equal(a.values, b.values)
        assert torch.equal(a.starts, b.starts)


def test_trees_that_no_chance_makes_are_not_drawn_for_ever(monkeypatch):
    monkeypatch.setattr(listops, "HOPE", 2_000)
    never = ListOpsSettings(min_length=10, max_length=13, max_depth=4, max_arguments=2)
    with pytest.raises(ConfigError, match=r"min_length is 10, and none of 2,000 trees of depth 4"):
        listops.generate(never, 10, processes=1)


def test_settings_without_enough_trees_are_refused():
    with pytest.raises(ConfigError, match=r"listops.max_length is 5: only \d+ distinct trees"):
        listops.generate(
            ListOpsSettings(min_length=3, max_length=5, max_depth=2, max_arguments=2), 5000
        )
    with pytest.raises(ConfigError, match=r"listops.min_length is 500, .* has 26 tokens"):
        ListOpsSettings(max_depth=3, max_arguments=4, min_length=500)
    with pytest.raises(ConfigError, match="listops.max_length is 10; allowed: more than"):
        ListOpsSettings(min_length=10, max_length=10)
    with pytest.raises(ConfigError, match="listops.max_arguments is 1"):
        ListOpsSettings(max_arguments=1)


def test_the_first_operator_says_more_than_the_most_frequent_label():
    splits = split_up(
        listops.generate(ListOpsSettings(min_length=50, max_length=200), 3000),
        {"train": 1500, "test": 1500},
    )
    found = listops.baselines(splits["train"], splits["test"])
    assert found["most frequent label"] < 25
    assert found["first operator, rule"] == pytest.approx(36, abs=4)
    assert found["first operator, fitted"] == pytest.approx(found["first operator, rule"], abs=4)


def test_generation_goes_on_where_it_was_interrupted(monkeypatch):
    made = []

    def make(settings, number):
        if number == 2 and len(made) < 3:
            made.append("killed")
            raise KeyboardInterrupt
        made.append(number)
        return listops.make_part(settings, number)

    with pytest.raises(KeyboardInterrupt):
        generated.parts("listops", SHORT, make, 4, processes=1)
    assert made == [0, 1, "killed"]
    found = generated.parts("listops", SHORT, make, 4, processes=1)
    assert made == [0, 1, "killed", 2, 3]  # the parts that were whole are not made again
    assert (found[2]["ids"] == listops.make_part(SHORT, 2)["ids"]).all()


def test_a_damaged_part_is_made_again():
    first = generated.parts("listops", SHORT, listops.make_part, 1)[0]
    path = next(generated.folder_of("listops", SHORT, 1).glob("*.npz"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="making .* again"):
        again = generated.parts("listops", SHORT, listops.make_part, 1)[0]
    assert (again["ids"] == first["ids"]).all()
    path.write_bytes(b"no archive")
    with pytest.warns(RuntimeWarning, match="making .* again"):
        generated.parts("listops", SHORT, listops.make_part, 1)


def test_a_cache_that_cannot_be_written_is_said_and_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TERMINATOR_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="could not be kept"):
        assert len(listops.generate(SHORT, 100)) == 100


@pytest.mark.slow
def test_several_processes_make_the_same():
    parts = generated.parts("listops", SHORT, listops.make_part, generated.IN_PARALLEL, processes=2)
    for number in (0, generated.IN_PARALLEL - 1):
        assert (parts[number]["ids"] == listops.make_part(SHORT, number)["ids"]).all()


def test_released_files(tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / f"basic_{split}.tsv").write_text(
            "Source\tTarget\n( ( ( [MAX 2 ) 9 ) ] )\t9\n5\t5\n"
        )
    splits = listops.read_released(tmp_path)
    assert list(splits) == ["train", "val", "test"]
    assert decode(splits["train"].texts[0][0]) == "[MAX 2 9 ]"
    assert splits["test"].labels.tolist() == [9, 5]
    (tmp_path / "basic_val.tsv").write_text("Source\tTarget\n5\t5\n[MAX 1 2 ]\n")
    with pytest.raises(DatasetCorrupt, match=r"basic_val.tsv, line 3: '\[MAX 1 2 \]'; allowed"):
        listops.read_released(tmp_path)
