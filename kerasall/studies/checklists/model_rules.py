"""What a run knows of its model, its training and what is exported: sentences for the items of checklists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kerasall.errors import count_of
from kerasall.evaluation.ensemble_rules import RULES
from kerasall.studies.checklists.data_rules import describe_files, describe_partition, describe_preprocessing
from kerasall.studies.checklists.facts import RunFacts


def describe_kind(run: RunFacts) -> Iterator[str]:
    """The technique, the classes and the main score: what a title has to name."""
    model = run.run.exported_words or "an image classifier"
    yield f"The technique is deep learning, with convolutional networks: {model}, which calls an image one of {', '.join(run.labels)}."
    if main := run.score(run.main_metric):
        yield f"Its main score: {main}."


def describe_for_abstract(run: RunFacts) -> Iterator[str]:
    """Numbers that an abstract takes; the abstract itself is written by the authors."""
    yield f"Numbers for it: {run.scored}; {run.score(run.main_metric)}."
    missed, total = run.results.get("malignant_called_benign"), run.results.get("malignant_images")
    if missed is not None and total is not None:
        yield f"{missed:,} of {count_of(total, 'malignant image')} were called benign."


def describe_research_only(run: RunFacts) -> Iterator[str]:
    """What the model's card says it is for."""
    if said := run.card.get("intended_use"):
        yield f"The model's card says: {said}"


def describe_goal(run: RunFacts) -> Iterator[str]:
    """Developing a model and testing it on data of the same source; or a copy of a paper's protocol."""
    if run.setting("protocol", "honest") != "honest":
        yield "A published protocol was copied as it was, leaks included: the scores are no fair test."
    elif run.honest and run.run.scored == "out-of-fold":
        yield "A model was developed; models made like it were scored on images of the same data that were held out from each and decided nothing of it. There was no test part."
    elif run.honest:
        yield "A model was developed, and tested on images of the same data that decided nothing of it."
    else:
        yield "A model was developed; the images it is scored on also decided something of it."


def describe_model(run: RunFacts) -> Iterator[str]:
    """Input, network, head, parameters, output."""
    chain = run.card.get("preprocess") or run.setting("preprocess", [])
    sides = next(
        ((op["height"], op["width"]) for op in reversed(chain) if "height" in op and "width" in op), None
    )
    if sides:
        yield f"Input: the bytes of one image file, brought to {sides[0]} x {sides[1]} pixels in three channels."
    if words := run.run.exported_words:
        yield f"Model: {words}."
    if _is_single(run):
        head = run.setting("model.head", {})
        layers = ", ".join(f"a dense layer of {units} with ReLU" for units in head.get("dense", ()))
        dropout = f", dropout {head['dropout']:g}" if head.get("dropout") else ""
        yield f"On the backbone: average pooling, {layers + ', ' if layers else ''}a dense layer with softmax over {len(run.labels)} classes{dropout}."
    if "parameters" in run.training:
        yield f"{run.training['parameters']:,} parameters in all."
    beside = "; calibrated probabilities beside it" if run.card.get("safeguards") else ""
    yield f"Output: a probability for every class, and the class that is called{beside}."
    if run.output("Model", "model.keras") is not None:
        yield "Every layer stands in model.keras, which the run keeps."


def describe_index_test(run: RunFacts) -> Iterator[str]:
    """The test as others would repeat it: model, preprocessing, software, and the command."""
    yield from describe_model(run)
    yield from describe_preprocessing(run)
    yield from describe_software(run)
    if command := run.run.record.get("command"):
        yield f"The command of the run: {command}"


def describe_software(run: RunFacts) -> Iterator[str]:
    """Versions of kerasall and of what computes; the machine stands in the report."""
    versions = dict(run.run.record.get("versions") or {})
    if own := run.card.get("kerasall_version"):
        versions = {"kerasall": own} | versions
    if versions:
        yield f"Software: {', '.join(f'{name} {version}' for name, version in versions.items())}."
    precision, devices = run.training.get("precision"), run.setting("train.devices")
    if precision:
        yield f"Trained in {precision}, on {count_of(devices or 1, 'device') if devices != 'all' else 'all GPUs'}."
    if "provenance" in run.sections:
        yield "The kind of processor and the memory that were used stand in the report."


def describe_devices(run: RunFacts) -> Iterator[str]:
    """Files as the devices left them, and the software."""
    yield from describe_files(run)
    yield from describe_software(run)


def describe_acquisition(run: RunFacts) -> Iterator[str]:
    """Files as they are, and what was done to them."""
    yield from describe_files(run)
    yield from describe_preprocessing(run)


def describe_initial_weights(run: RunFacts) -> Iterator[str]:
    """ImageNet, random ones with a seed, or a file, network by network."""
    found: dict[str, list[str]] = {}
    for name, model in list_networks(run):
        weights = str(model.get("weights", "imagenet"))
        words = {"imagenet": "trained on ImageNet", "random": "random"}.get(weights, "from a file of weights")
        found.setdefault(words, []).append(name)
    for words, names in found.items():
        head = "" if run.setting("deep_features") else "; head layers random"
        yield f"Weights at the start, {words}: {', '.join(dict.fromkeys(names))}{head}."
    seed, repeat = run.setting("seed"), run.setting("repeat", 0)
    yield f"Seed {seed}{f', repetition {repeat}' if repeat else ''}."


def list_networks(run: RunFacts) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and settings of every backbone that the run starts from."""
    members = run.setting("members", [])
    extractors = (run.setting("deep_features") or {}).get("extractors", ())
    backbones = (run.setting("sweep") or {}).get("backbones", ())
    if members:
        return [(each["name"], each["model"]) for each in members]
    if extractors or backbones:
        return [(each["name"], each) for each in (*extractors, *backbones)]
    model = run.setting("model", {})
    return [(model.get("backbone", "the network"), model)]


def _is_single(run: RunFacts) -> bool:
    return not any(run.setting(part) for part in ("members", "deep_features", "sweep", "tune"))


def describe_training(run: RunFacts) -> Iterator[str]:
    """Stages with every constant, loss, batches, balance, augmentation, and how many models were trained."""
    train = run.setting("train", {})
    if run.setting("deep_features"):
        chosen = run.setting("deep_features.classifiers", [])
        yield f"Classifiers ({', '.join(chosen)}) were fitted to features of networks that stay as they are."
    else:
        whose = "Each member, where it states nothing else" if run.setting("members") else "Training"
        fixed = is_unwatched(run)
        stages = "; ".join(describe_stage(each, fixed) for each in train.get("stages", ()))
        yield (
            f"{whose}: {stages}; batches of {train.get('batch_size')}; loss {str(train.get('loss')).replace('_', ' ')}"
            + (f", label smoothing {train['label_smoothing']:g}" if train.get("label_smoothing") else "")
            + "."
        )
        yield from describe_balance(run)
    augment = run.setting("augment")
    stated = ", ".join(f"{key} {value}" for key, value in augment.items()) if augment else ""
    yield (
        f"Random changes of training images: {stated.replace('_', ' ')}."
        if stated
        else "Training images were not changed at random."
    )
    fits = len(run.training.get("fits", ()))
    if fits and not run.setting("members"):
        yield f"Models that were trained: {fits:,} ({', '.join(run.training['fits'])})."
    yield f"Deterministic: {'yes' if run.setting('deterministic') else 'no'}."


def is_unwatched(run: RunFacts) -> bool:
    """Whether no image was held out to decide epochs on: stages then end where the settings say."""
    return bool(run.split and run.split.folds) and not run.setting("split.inner_validation", 0)


def describe_stage(stage: Mapping[str, Any], fixed: bool = False) -> str:
    """One stage in words, with all its constants; ``fixed`` where nothing can end it early."""
    parts = {"head": "the head alone", "all": "the whole network"}
    optimizer = stage["optimizer"]
    constants = ", ".join(f"{key} {value}" for key, value in optimizer.get("constants", {}).items())
    schedule = dict(stage.get("schedule") or {})
    name = schedule.pop("name", "constant")
    rate = ", ".join([name, *(f"{key} {value}" for key, value in schedule.items())])
    stop = (
        f", ended after {stage['patience']} epochs without a better {stage['monitor']}"
        if stage.get("patience") and not fixed
        else ""
    )
    frozen = (
        ""
        if stage.get("train_batch_norm") or stage["trainable"] == "head"
        else ", batch normalisation as it is"
    )
    return (
        f"stage {stage['name']} trains {parts.get(stage['trainable'], 'from ' + stage['trainable'] + ' on')} with "
        f"{optimizer['name']}{f' ({constants})' if constants else ''}, learning rate {optimizer['learning_rate']:g} ({rate}), "
        f"{'' if fixed or not stop else 'up to '}{count_of(stage['epochs'], 'epoch')}{stop}{frozen}"
    )


def describe_balance(run: RunFacts) -> Iterator[str]:
    """Class weights and oversampling, of any member too; of classifiers on stored features the run notes neither."""
    if run.setting("deep_features"):
        return
    trains = [run.setting("train", {}), *(each.get("train") or {} for each in run.setting("members", ()))]
    weighted = any(each.get("class_weights", "none") != "none" for each in trains)
    repeated = any(each.get("oversample", "none") != "none" for each in trains)
    if weighted:
        yield "Classes were weighted in the loss so that each counts the same (train.class_weights)."
    if repeated:
        yield "Images of small classes were repeated in training (train.oversample)."
    if (weighted or repeated) and run.card.get("safeguards"):
        yield "Calibration was fitted afterwards, to images that were not balanced."
    if not (weighted or repeated):
        yield "Nothing was done against class imbalance."


def describe_choice(run: RunFacts) -> Iterator[str]:
    """What chose epochs, combinations and levels, and on which images."""
    stages = run.setting("train.stages", [])
    best = {str(stage["monitor"]) for stage in stages if stage.get("keep", "best") == "best"}
    if run.setting("deep_features") or run.setting("sweep"):
        chosen, on = run.training.get("chosen"), run.training.get("compared_on")
        stated = (run.setting("deep_features") or run.setting("sweep"))["chosen"]
        if stated:
            yield "What is exported stands in the settings (chosen): this run did not choose it by a score."
        elif chosen and on:
            yield f"Exported is the best of {count_of(len(run.training.get('combinations', ())), 'combination')}, compared on {on} images."
    elif is_unwatched(run):
        varied = any(name.endswith(".epochs") for name in (run.setting("tune") or {}).get("factors", ()))
        fixed = "The settings fix the number of epochs: no image decided it in this run. How the settings were found, the authors know."
        yield "The number of epochs is a factor of the designed experiment." if varied else fixed
    elif best:
        yield f"The weights of the epoch with the best {' or '.join(sorted(best))} were kept, decided on images that were not trained on."
    else:
        yield "The weights of the last epoch were kept."
    if any(
        "final" in each.get("fits", {}) for each in (run.training, *run.training.get("members", {}).values())
    ):
        yield "The exported model was trained once more on all folds; out-of-fold scores are those of the folds' models."
    if tune := run.setting("tune"):
        yield (
            f"Settings were chosen by a designed experiment over {', '.join(tune['factors'])} "
            f"({tune['response']} on {tune['response_on']} images), and confirmed by {tune['confirmations']} runs."
        )
    if run.setting("protocol", "honest") != "honest":
        yield "As in the copied protocol, the choice was made on the images that are scored."


def describe_ensemble(run: RunFacts) -> Iterator[str]:
    """Members, rule and weights."""
    found = run.results.get("ensemble")
    if not found or "not_made" in found:
        return
    rule = RULES[found["rule"]].title if found.get("rule") in RULES else found.get("rule")
    yield f"{rule} of {count_of(len(found['members']), 'member')}: {', '.join(found['members'])}."
    if weights := found.get("weights"):
        values = weights.values() if isinstance(weights, Mapping) else weights
        yield f"Weights: {', '.join(f'{value:.3f}' for value in values)}, from {run.setting('ensemble.weights_from', 'validation')} images."


def describe_no_ensemble(run: RunFacts) -> str:
    """Why the item on ensembles does not apply; "" where it does."""
    found = run.results.get("ensemble")
    return "" if found and "not_made" not in found else "One model answers: there is no ensemble."


def describe_development(run: RunFacts) -> Iterator[str]:
    """Parts, model, training and choice, one after the other."""
    for part in (
        describe_partition,
        describe_model,
        describe_initial_weights,
        describe_training,
        describe_choice,
    ):
        yield from part(run)


def describe_predictors(run: RunFacts) -> Iterator[str]:
    """The pixels of one image; nothing was selected."""
    yield "The predictors are the pixels of one image, all of them after preprocessing; none was selected beforehand, and nothing else of a patient enters."


def describe_measured(run: RunFacts) -> Iterator[str]:
    """Pixels are read by a program."""
    yield "The predictors are pixel values, which a program reads from the file: no one judges them."
    yield from describe_files(run)


def describe_blind_model(run: RunFacts) -> Iterator[str]:
    """The exported model is given the image's bytes alone."""
    yield "The model answers from the bytes of one image file: it is given no label and no clinical information when it answers."
    if run.run.scored in ("validation", "selection"):
        yield "But the labels of the scored images did decide when training stopped, or which settings were taken."


def describe_calculation(run: RunFacts) -> Iterator[str]:
    """The exported graph, compared with the trained network."""
    if run.run.scored == "test":
        yield "The scored images were passed, file by file, through the exported SavedModel, as a user would."
    else:
        yield "The scored probabilities are those of the trained networks for the images held out from each."
    parity = run.read("Parity", "parity.json")
    if parity.get("largest_difference") is not None:
        yield (
            f"Exported and trained network were compared on {count_of(parity['images'], 'image')}: largest difference "
            f"{parity['largest_difference']:.1e}."
        )


def describe_given(run: RunFacts) -> Iterator[str]:
    """What a third party is handed."""
    yield "The model is a SavedModel with its preprocessing, class names, model card and a list of SHA-256 digests; it takes the bytes of an image file."
    if run.run.pushed_to is not None:
        yield "The run put it into its own folder of models; whether anybody else can get it, the run does not know."
    else:
        yield "The run did not put it into its folder of models (see the verdict)."


def describe_kept(run: RunFacts) -> Iterator[str]:
    """Outputs that are stored for an audit."""
    yield "The file predictions.csv holds every scored image with its true class, its call and all probabilities."
    if run.run.record.get("published"):
        yield "The file run.json holds the SHA-256 of every file that was published."


def describe_technical(run: RunFacts) -> Iterator[str]:
    """Where the technical details stand."""
    exact = (
        "" if run.setting("deterministic") else ", though not to the last digit, as it was not deterministic"
    )
    yield f"All settings stand resolved in settings.yaml, and the command in run.json: with the same data and weights they make the run again{exact}."


def describe_explanation(run: RunFacts) -> Iterator[str]:
    """Heat maps that can be asked for, and that nothing validates them."""
    without = run.card.get("no_maps") or {}
    if isinstance(without, Mapping) and without:
        told = "; ".join(f"{name}: {reason}" for name, reason in without.items())
        yield f"No heat map can be made of {told}."
    else:
        yield "The exported model gives Grad-CAM heat maps on request (kerasall explain)."
    yield "No map entered a score, and none was validated by this run."
