"""Tables of every study, from records alone."""

import pytest
from places import ROOT
from record_files import put, record

from terminator.classification import headline, studies
from terminator.classification.presets import PRESETS, preset
from terminator.classification.runs import CLASSIFICATION
from terminator.hrrformer.longrange.runs import LONG_RANGE
from terminator.hypertransformer.fewshot.presets import study
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.report import tables
from terminator.runs import records
from terminator.runs.outcomes import HOLDS, NOT, NOT_RUN, UNDECIDED
from terminator.runtime.settings import to_dict


def of(
    config,
    experiment,
    accuracies,
    profile="laptop",
    title="MNIST",
    notes=("1000 of 60000 train images",),
    **more,
):
    """Records of a configuration, a seed for each accuracy."""
    made = []
    for seed, accuracy in enumerate(accuracies):
        one = record(seed, accuracy, profile, experiment)
        config = config.updated(train={"seed": seed})
        one |= {"config": to_dict(config), "run_id": f"{one['run_id']}-{experiment}", **more}
        one["data"] |= {"title": title, "notes": list(notes), "name": config.dataset.name}
        made.append(one)
    return made


def few_shot(label, seed, accuracy, profile="laptop"):
    config = study("methods", profile)[label].resolved(1, 242).updated(train={"seed": seed})
    test = {"accuracy": accuracy, "interval": 1.0, "tasks": 1024}
    return record(seed, accuracy, profile, "fewshot") | {
        "task": "few-shot",
        "config": to_dict(config),
        "epochs": [1],
        "episodes_per_s": 100.0,
        "run_id": f"omniglot-{label.replace(', ', '-').replace(' ', '-')}-{seed}",
        "results": {"test": test, "train": test, "test_overlapping": test},
    }


def test_variants_have_the_names_of_their_study():
    study = studies.ablations("laptop")
    found = of(study.variants[studies.FULL], "ablations", (90.0, 92.0))
    found += of(study.variants["without RGUs"], "ablations", (80.0,))
    (table,) = tables.study_tables(found)
    assert (table.title, table.notebook) == ("Ablations", "13_ablations")
    assert table.rows["what"].tolist() == [studies.FULL, "without RGUs"]
    assert table.rows["accuracy (%)"].tolist() == ["90.00 and 92.00", "80.00"]
    assert table.rows["seeds"].tolist() == [2, 1]
    common, rows = table.parts()
    assert "data: MNIST" in common
    assert "profile: laptop" in common
    assert "on: a processor" in common
    assert "profile" not in rows


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_variant_of_every_study_has_a_name(profile):
    own = ("segmentation", "longrange", "fewshot", "gan", "classifiers")
    others = {name for name in tables.TITLES if name.startswith(own)}
    # nothing is trained on them there
    others |= {"pathfinder_pictures"} if profile == "smoke" else set()
    for experiment in set(tables.TITLES) - others - {"images", "given"}:
        assert tables.named(experiment, profile), experiment
    contest = studies.optimizers(profile)
    rate = contest.rates["Kar3"][1]
    final = contest.final({name: rates[1] for name, rates in contest.rates.items()})
    assert tables.named("optimizers", profile)[f"Kar3, rate {rate:g}"] == final.variants["Kar3"]


def test_runs_of_unknown_settings_and_experiments_have_a_row():
    found = of(preset("digits", optimizer={"lr": 0.5}), "ablations", (50.0,)) + of(
        preset("digits"), "mine", (60.0,)
    )
    first, second = tables.study_tables(found)
    assert first.rows["what"].tolist() == ["Terminator"]
    assert (second.title, second.notebook) == ("mine", "")
    assert tables.study_tables([]) == []
    assert tables.document([]) == ""


def test_a_document_counts_the_rows_that_it_leaves_out():
    found = [
        one
        for lr in (0.1, 0.2, 0.3)
        for one in of(preset("digits", optimizer={"lr": lr}), "mine", (lr,))
    ]
    studied = tables.study_tables(found)
    (table,) = studied
    assert len(table.rows) == 3
    short = tables.document(studied, rows=2)
    assert short.count("\n| ") == 1 + 2  # the head, and two rows
    assert short.endswith("1 more rows stand in study_mine.csv.")
    assert tables.document(studied, rows=3) == tables.document(studied)


def test_the_difference_to_a_published_number_is_of_the_same_experiment(monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    whole = of(preset("cifar10"), "images", (95.0, 95.2), "paper", "CIFAR-10", notes=())
    assert PRESETS["cifar10"].get("train", {}).get("epochs", 100) == 100
    (table,) = tables.study_tables(whole)
    assert table.rows[["published (%)", "difference"]].values.tolist() == [["95.31", "-0.21"]]
    for other in (
        of(
            preset("cifar10"),
            "images",
            (95.0,),
            "paper",
            "CIFAR-10",
            notes=("1 of 50000 train images",),
        ),
        of(
            preset("cifar10", optimizer={"name": "AdamW", "lr": 0.001}),
            "images",
            (95.0,),
            "paper",
            "CIFAR-10",
            notes=(),
        ),
        of(
            preset("cifar10", train={"epochs": 30}),
            "images",
            (95.0,),
            "paper",
            "CIFAR-10",
            notes=(),
        ),
        of(preset("cifar10"), "ablations", (95.0,), "paper", "CIFAR-10", notes=()),
        of(preset("cifar10"), "images", (95.0,), "paper", "CIFAR-10", notes=(), model="ResNet18"),
    ):
        (table,) = tables.study_tables(other)
        assert table.rows["difference"].tolist() == ["-"]


def test_few_shot_runs_are_averaged_over_seeds():
    found = [few_shot("5-way, all layers", seed, 60.0 + seed) for seed in (0, 1)]
    found.append(few_shot("5-way, prototypical network", 0, 50.0))
    (table,) = tables.study_tables(found)
    assert table.rows["what"].tolist() == ["HyperTransformer, all layers", "prototypical network"]
    assert table.rows["test (%)"].tolist() == ["60.00 and 61.00", "50.00"]
    assert table.rows["seeds"].tolist() == [2, 1]
    assert "tasks: 1,024" in table.parts()[0]
    assert "tasks" not in table.parts(brief=True)[0]
    assert FEW_SHOT.of_record(found[0]).config.episodes.num_labels == 5


def test_the_page_has_results_only():
    base = studies.ablations("laptop").variants[studies.FULL]
    put(
        *of(base, "ablations", (90.0, 94.0)),
        *of(base, "ablations", (10.0,), "smoke"),
        *of(base, "networks-rates", (20.0,)),
        few_shot("5-way, all layers", 0, 60.0),
    )
    text = tables.result_tables("notebooks/")
    assert "90.00 and 94.00" in text
    assert "10.00" not in text  # no smoke numbers
    assert "20.00" not in text  # how a setting was chosen is no result
    assert "HyperTransformer, all layers" in text
    assert text.index("**Ablations** ([13](notebooks/13_ablations.ipynb))") < text.index(
        "**Few-shot learning**"
    )


def test_no_records_no_tables():
    assert tables.result_tables() == tables.NO_RECORDS
    assert records.evidence(CLASSIFICATION.task) == []


def test_other_measurements_have_no_table():
    timing = record(0) | {"task": "speed", "results": [{"batch": 1}], "experiment": "fewshot_speed"}
    assert tables.study_tables([timing]) == []


# -- trainings under way ---------------------------------------------------------------------------


def under_way(seed, accuracies, **more):
    """A record of the headline after so many epochs, and what its data are."""
    config = preset("cifar10", dataset={"name": "cifar10-jpeg"}, train={"seed": seed})
    one = record(seed, 0.0, "paper", "headline")
    one |= {"config": to_dict(config), "status": "running", "results": {}, "run_id": f"c-s{seed}"}
    one["data"] |= {
        "title": "CIFAR-10 (JPEG)",
        "name": "cifar10-jpeg",
        "train_size": 50_000,
        "shape": [3, 32, 32],
        "notes": ["lossy JPEG copy of CIFAR-10"],
    }
    one["epochs"] = [
        {"epoch": epoch, "test_accuracy": value} for epoch, value in enumerate(accuracies, start=1)
    ]
    return one | more


def test_a_training_under_way_says_how_far_it_is():
    put(under_way(0, (59.0, 74.0)))
    text = tables.result_tables("notebooks/")
    assert "**The headline: CIFAR-10 at full size**" in text
    assert "Epochs: after 2 of 100" in text or "epochs: after 2 of 100" in text
    assert "| 74.00 |" in text
    assert records.evidence(CLASSIFICATION.task) == []


def test_rows_of_one_name_say_in_what_they_differ(monkeypatch):
    """Settings that no study knows any more, and data that other libraries read."""
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    found = records.load_records("ablations", "laptop")
    names = list(tables.classification_table("ablations", found)["what"])
    assert "Terminator (model.rgu=False)" in names
    assert len(set(names)) == len(names)
    rows = tables.system_table(LONG_RANGE, records.load_records("longrange", "laptop"))
    told = rows.drop(columns=[*LONG_RANGE.measures.values(), "seeds", "minutes a run", "on"])
    assert not told[told["data"].str.startswith("CIFAR-10")].astype(str).duplicated().any()
    assert rows["what"].str.contains("(torch=2.14.1, torchvision=", regex=False).any()


def test_the_headline_beside_the_log():
    log = headline.log()
    assert log[1] == pytest.approx(61.04768)
    runs = [under_way(seed, (log[1] + d, log[2] - d)) for seed, d in enumerate((0.1, 0.2))]
    table = headline.beside_the_log(headline.chosen(runs))
    assert table["ours - log"].round(6).tolist() == [0.15, -0.15]
    few = headline.follows_the_log_on_copies(runs)
    assert few.word == UNDECIDED
    assert "after epoch 2 of 100, CIFAR-10 (JPEG)" in few.evidence
    assert "1 +0.15, 2 -0.15" in few.evidence
    three = [*runs, under_way(2, (log[1] - 0.1,))]
    found = headline.follows_the_log_on_copies(three)
    assert "by epoch: 1 +0.07 (3 seeds), 2 -0.15 (2 seeds)" in found.evidence
    assert found.word == HOLDS  # judged where three seeds are
    assert "after epoch 1 of 100" in found.evidence
    far = [under_way(seed, (log[1] - 5 + seed / 10,)) for seed in range(3)]
    assert headline.follows_the_log_on_copies(far).word == NOT
    assert headline.follows_the_log_on_copies([]).word == NOT_RUN
    half = under_way(0, (60.0,))
    half["data"]["notes"].append("25000 of 50000 train images")
    assert headline.chosen([half, under_way(0, (60.0,), experiment="images")]) == ([], {})


def test_of_two_readings_of_the_headline_one_is_judged_and_the_other_stands_beside_it():
    log = headline.log()
    far, near = under_way(0, (58.0, 70.0)), under_way(0, (59.5,), run_id="c-other")
    far["config"]["model"]["local_context_init"] = "linear"
    far["config"]["train"]["precision"] = near["config"]["train"]["precision"] = "bf16"
    found = headline.chosen([near, far])
    assert found.runs == [far]  # it has come further
    assert found.others == {"model.local_context_init=torch": [near]}
    table = headline.beside_the_log(found)
    assert table["seed 0"].tolist() == [58.0, 70.0]
    assert table["ours - log"].tolist() == pytest.approx([58.0 - log[1], 70.0 - log[2]])
    assert table["seed 0, model.local_context_init=torch"].dropna().tolist() == [59.5]
    said = headline.sentence(found)
    assert "With model.local_context_init=torch (seed 0 after 1 of 100 epochs)" in said
    assert f"less the log, by epoch: 1 {59.5 - log[1]:+.2f}. " in said
    table = headline.beside_the_log(
        headline.Headline([near], {"linear": [far]})
    )  # whose epochs are more
    assert table["seed 0, linear"].tolist() == [58.0, 70.0]
    assert table["released log"].tolist() == [log[1], log[2]]
    assert table["ours - log"].dropna().tolist() == pytest.approx([59.5 - log[1]])
    three = [under_way(seed, (59.0,), run_id=f"c{seed}") for seed in range(3)]
    assert headline.chosen([*three, far]).runs == three  # more seeds count for more
    for run in three:
        run["config"]["train"]["precision"] = "bf16"
    assert list(headline.chosen([*three, far]).others) == ["model.local_context_init=linear"]
    told = headline.follows_the_log_on_copies([*three, far]).evidence
    assert f"by epoch: 1 {59.0 - log[1]:+.2f}; with model.local_context_init=linear: " in told
    assert f"linear: 1 {58.0 - log[1]:+.2f}, 2 {70.0 - log[2]:+.2f}" in told
    assert headline.chosen([far]) == ([far], {})
    assert headline.chosen([]) == ([], {})
    put(far)
    assert "Terminator, local context started wider" in tables.result_tables("notebooks/")


def test_what_jpeg_costs_is_told_beside_the_log():
    study = studies.jpeg("laptop").variants
    found = []
    for label, cost in zip(study, (0.0, 1.0), strict=True):
        for seed in range(3):
            accuracy = 70.0 - cost + (0.1 * seed if label == studies.AS_THEY_ARE else 0.05 * seed)
            one = record(seed, accuracy, experiment="jpeg")
            config = to_dict(
                CLASSIFICATION.resolve_like(study[label].updated(train={"seed": seed}), one)
            )
            found.append(one | {"config": config, "run_id": f"{label} {seed}"})
    said = headline.jpeg_cost(found)
    assert "after 3 epochs: -1.05 points (-1." in said
    assert headline.jpeg_cost([]) == headline.jpeg_cost(found, "paper") == ""
    log = headline.log()
    under = headline.follows_the_log_on_copies([*found, under_way(0, (log[1],))])
    assert said in under.evidence


def original(run, accuracies):
    """The same training on the published pixels, after so many epochs."""
    data = run["data"] | {"name": "CIFAR10", "title": "CIFAR-10", "notes": []}
    config = {**run["config"], "dataset": {**run["config"]["dataset"], "name": "CIFAR10"}}
    epochs = [{"epoch": i, "test_accuracy": value} for i, value in enumerate(accuracies, start=1)]
    return run | {"data": data, "config": config, "epochs": epochs, "run_id": f"o{run['seed']}"}


def test_what_float32_gives_is_measured_with_the_same_seed():
    first, second = headline.log()[1], headline.log()[2]
    wide = original(under_way(1, (first,)), (first + 1,))
    train = wide["config"]["train"] | {"precision": "bf16"}
    narrow = original(wide | {"config": wide["config"] | {"train": train}}, (first, second))
    found = headline.chosen([wide, narrow])
    assert found.runs == [narrow]  # which has come further
    assert headline.float32_gains(found) == "Float32 less bf16, seed 1, by epoch: 1 +1.00"
    assert headline.sentence(found).endswith(" Float32 less bf16, seed 1, by epoch: 1 +1.00.")
    assert headline.float32_gains(headline.chosen([narrow])) == ""
    further = original(wide, (first + 1, second + 2, 0.0))
    found = headline.chosen([further, narrow])
    assert found.runs == [further]  # the same difference, seen from its other side
    assert headline.float32_gains(found) == "Float32 less bf16, seed 1, by epoch: 1 +1.00, 2 +2.00"


def test_the_headline_on_the_published_pixels_is_judged_by_itself_and_measures_what_jpeg_costs():
    log = headline.log()
    copies = [under_way(seed, (log[1] - 2, log[2] - 4, log[3] - 5)) for seed in range(3)]
    ours = original(copies[1], (log[1] - 0.5, log[2] + 0.5))
    found = headline.chosen([*copies, ours])
    assert found.runs == [ours]  # fewer seeds and epochs, but of the log's data
    assert found.others == {"dataset.name=cifar10-jpeg": copies}
    told = "JPEG files less the published pixels, seed 1, by epoch: 1 -1.50, 2 -4.50"
    assert headline.copies_cost(found) == told
    assert told in headline.sentence(found)
    assert "cannot be known" not in headline.sentence(found)
    assert list(headline.beside_the_log(found)["seed 0, dataset.name=cifar10-jpeg"]) == (
        pytest.approx([log[1] - 2, log[2] - 4, log[3] - 5])
    )
    assert "CIFAR-10: " in headline.follows_the_log([*copies, ours]).evidence
    on_copies = headline.follows_the_log_on_copies([*copies, ours])
    assert on_copies.word == NOT
    assert on_copies.evidence.endswith(told)
    assert headline.follows_the_log(copies).word == NOT_RUN
    assert headline.follows_the_log_on_copies([ours]).word == NOT_RUN
    assert headline.copies_cost(headline.chosen(copies)) == ""
    assert headline.copies_cost(headline.chosen([copies[0], ours])) == ""  # of another seed
    train = ours["config"]["train"] | {"precision": "bf16"}
    other = ours | {"config": ours["config"] | {"train": train}, "epochs": ours["epochs"] * 2}
    found = headline.chosen([*copies, ours, other])
    assert found.runs == [other]
    told = told.replace("pixels,", "pixels with train.precision=float32,")
    assert headline.copies_cost(found) == told  # of runs that are not judged
    assert headline.sentence(headline.chosen([ours])).endswith(f"{headline.NOT_BOTH}.")
    labels = CLASSIFICATION.records_of(studies.headline("paper").variants, [ours, copies[0]])
    assert list(labels.values()) == [[ours], [], [], []]  # in float32
    for run in (ours, copies[0]):
        run["config"]["train"]["precision"] = "bf16"
    labels = CLASSIFICATION.records_of(studies.headline("paper").variants, [ours, copies[0]])
    assert list(labels.values()) == [[], [ours], [copies[0]], []]  # no copy passes for the original


def test_what_is_said_of_the_headline():
    assert "No record of the experiment headline" in headline.sentence(headline.gathered())
    put(under_way(0, (59.0, 74.0)))
    said = headline.sentence(headline.gathered())
    assert "CIFAR-10 (JPEG): seed 0 after 2 of 100 epochs" in said
    assert "undecided" in said
    assert "cannot be known" in said
