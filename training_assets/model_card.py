"""``model_card.md``: what a model is for, what it was made from, what it scores, and what the figures warn of.

A pure function of typed inputs: the same model has the same card, byte for byte.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from trainer.contract.eval_report import OVERALL, Change, SliceScore, SplitScore
from trainer.contract.metrics import direction, gain
from trainer.contract.results import Exports, TrainResult
from trainer.contract.slices import Slice
from training_assets.facts import Facts, general
from training_assets.gates import JUDGED_SPLIT, GateResult, markdown, tendency
from training_assets.intervals import changed, with_interval
from training_assets.records import TrainingSet
from training_assets.stores.source import CodeVersion
from training_assets.timings import int8_note, int8_table, timing_table

RESTRICTED = re.compile(r"research|non-?commercial|\bNC\b|-NC-|unstated|unknown", re.IGNORECASE)
CLASS_SCORE = re.compile(r"^(?P<task>[^/]+)/(?P<metric>[^/]+)/(?P<name>.+)$")
WEAK_SCORE = 0.1
NOTABLE_GAP = 0.01
WIDE = 0.5


def model_card(card: Facts) -> str:
    """The card as Markdown."""
    sections = {
        "Intended use": _intended_use(card),
        "Caveats": _list(caveats(card)) or "The figures below give no reason for one.",
        "Scores": _scores(card),
        "Compared with production": _compared(card),
        "Calibration": _calibration(card),
        "Gates": markdown(card.gates) or "No gates were asked.",
        "Latency": _latency(card.exports),
        "int8": _int8(card.exports),
        "Data": _data(card),
        "Training": _training(card),
    }
    title = f"# {card.config.name}, run {card.report.run_id}"
    return "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def caveats(card: Facts) -> list[str]:
    """What follows from the figures, the gravest first."""
    return [
        *_failed_gates(card.gates),
        *_warnings_of_the_run(card.result),
        *_restricted_licences(card.provenance.licences),
        *_judged_slices(card),
        *_worse_than_production(card),
        *_wide_intervals(card),
        *_classes(card.judged),
        *_capture_times(card.provenance.captured_at_sources),
        *_windows(card.training_set),
        *_reproducibility(card.code),
    ]


def _failed_gates(gates: Iterable[GateResult]) -> Iterator[str]:
    for gate in gates:
        if not gate.passed:
            word = "must not be released" if gate.severity == "block" else "passed with a warning"
            yield f"Gate {gate.name} is not passed: the model {word}."


def _warnings_of_the_run(result: TrainResult) -> Iterator[str]:
    for verdict in result.gates:
        if not verdict.passed:
            yield f"Gate {verdict.gate} inside the training warned: {verdict.message}."


def _restricted_licences(licences: Mapping[str, int]) -> Iterator[str]:
    for licence, count in licences.items():
        if RESTRICTED.search(licence):
            yield f"{count} frames have the licence “{licence}”: not for products unless their owner agrees."


def _judged_slices(card: Facts) -> Iterator[str]:
    if card.judged is None:
        yield f"The report has no {JUDGED_SPLIT} split: nothing was judged."
        return
    for one in card.slices.slices:
        samples = card.judged.slices[one.name].samples if one.name in card.judged.slices else 0
        if samples < one.min_samples:
            what = "Safety-critical slice" if one.safety_critical else "Slice"
            found = "no samples" if not samples else f"{samples} samples, {one.min_samples} are needed"
            yield f"{what} {one.name} was not judged: {found}."
    for metric in _watched(card):
        yield from _weakest_slice(card.judged, card.slices.slices, metric)


def _watched(card: Facts) -> list[str]:
    """The metrics that the recipe names."""
    return list(dict.fromkeys([card.config.training.monitor, *card.config.release.targets]))


def _weakest_slice(judged: SplitScore, slices: Sequence[Slice], metric: str) -> Iterator[str]:
    """The slice, of those with enough samples, that scores worst; said when that is notably worse than the whole."""
    parts = {
        one.name: part for one in slices if (part := judged.slices.get(one.name)) and part.samples >= one.min_samples
    }
    scored = {name: value for name, part in parts.items() if (value := part.metrics.get(metric)) is not None}
    overall = judged.metrics.get(metric)
    name = min(scored, key=lambda one: direction(metric) * scored[one], default=None)
    if name is not None and overall is not None and (gap := gain(metric, overall, scored[name])) >= NOTABLE_GAP:
        yield (
            f"Weakest slice by {metric}: {name}, {scored[name]:.3f} on {parts[name].samples} samples,"
            f" {gap:.3f} worse than {overall:.3f} on the whole {JUDGED_SPLIT} split."
        )


def _worse_than_production(card: Facts) -> Iterator[str]:
    """What the comparison could not say, and what it says though the gates let it pass."""
    against = card.report.against
    if against is None:
        return
    if against.misfit is not None:
        yield f"Not compared with production (run {against.run_id}), which does not fit this data: {against.misfit}."
    if lost := against.lost.get(JUDGED_SPLIT):
        yield f"Production has {', '.join(lost)}, which this model has not."
    for name, metric, change in _changes(card):
        if tendency(metric, change) == "worse":
            yield f"Worse than production beyond noise: {metric} on {name}, {changed(change)}."


def _changes(card: Facts) -> Iterator[tuple[str, str, Change]]:
    """Slice, metric and change of every general metric, where there are enough samples."""
    against, judged = card.report.against, card.judged
    if against is None or judged is None:
        return
    needed = {one.name: one.min_samples for one in card.slices.slices}
    for name, changes in against.splits.get(JUDGED_SPLIT, {}).items():
        part = judged if name == OVERALL else judged.slices[name]
        if part.samples >= needed.get(name, 0):
            yield from ((name, metric, changes[metric]) for metric in general(judged) if metric in changes)


def _wide_intervals(card: Facts) -> Iterator[str]:
    """Where, of the judged parts, the interval of a watched metric is wider than half of its value."""
    if card.judged is None:
        return
    needed = {one.name: one.min_samples for one in card.slices.slices}
    parts = {f"the whole {JUDGED_SPLIT} split": card.judged, **card.judged.slices}
    judged = {name: part for name, part in parts.items() if part.samples >= needed.get(name, 0)}
    for metric in _watched(card):
        wide = [f"{name}, {_scored(part, metric)}" for name, part in judged.items() if _is_wide(part, metric)]
        if wide:
            yield f"Little is known of {metric} on {'; '.join(wide)}: more samples would tell."


def _is_wide(part: SliceScore, metric: str) -> bool:
    value, interval = part.metrics.get(metric), part.intervals.get(metric)
    return value is not None and interval is not None and interval[1] - interval[0] > WIDE * abs(value)


def _classes(judged: SplitScore | None) -> Iterator[str]:
    """Classes without a defined score (no sample of them in the test split), and those that score next to nothing."""
    scores: dict[tuple[str, str], list[float | None]] = {}
    for name, value in (judged.metrics if judged else {}).items():
        if match := CLASS_SCORE.match(name):
            scores.setdefault((match["task"], match["name"]), []).append(value)
    best = {
        pair: max((value for value in values if value is not None), default=None) for pair, values in scores.items()
    }
    for task, absent in _by_task(pair for pair, value in best.items() if value is None).items():
        yield f"No samples of {', '.join(absent)} in the {JUDGED_SPLIT} split: how {task} does on them is not known."
    for task, names in _by_task(
        pair for pair, value in best.items() if value is not None and value < WEAK_SCORE
    ).items():
        yield f"{task} hardly finds {', '.join(names)}: a score below {WEAK_SCORE}."


def _by_task(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for task, name in pairs:
        found.setdefault(task, []).append(name)
    return found


def _capture_times(sources: Mapping[str, int]) -> Iterator[str]:
    if assigned := sources.get("assigned"):
        yield (
            f"{assigned} of {sum(sources.values())} frames have an assigned capture time, not the recorded one:"
            " their windows say nothing about when they were taken."
        )


def _windows(used: TrainingSet) -> Iterator[str]:
    if used.windows_missing:
        asked = len(used.windows_found) + len(used.windows_missing)
        yield f"Trained on {len(used.windows_found)} of {asked} windows: {', '.join(used.windows_missing)} had no rows."


def _reproducibility(code: CodeVersion) -> Iterator[str]:
    if code.git_sha is None:
        yield "The commit of the code is not known: the training cannot be repeated exactly."
    elif code.dirty:
        yield f"The code had changes that are not in commit {code.git_sha[:12]}: it cannot be repeated exactly."


def _intended_use(card: Facts) -> str:
    tasks = [
        f"{name} of {', '.join(task.classes)}" if task.classes else name for name, task in card.config.tasks.items()
    ]
    size = card.config.data.image_size
    camera = (
        None if size is None else f"RGB images of {size[1]}×{size[0]} from a forward-looking camera on a road vehicle"
    )
    seen = camera or "agents' past tracks in metres"
    return "\n\n".join(
        [
            card.config.description or f"Recipe {card.config.name} of project {card.config.project}.",
            _list([*tasks, f"Input: {seen}."]),
            "Out of scope: use without a human or another system that checks it, and conditions that the slices below"
            " do not cover. The scores hold for data like the test split.",
        ]
    )


def _scores(card: Facts) -> str:
    if card.judged is None:
        return "None."
    metrics = general(card.judged)
    marked = {one.name: f"{one.name} (safety-critical)" for one in card.slices.slices if one.safety_critical}
    parts = {f"whole {JUDGED_SPLIT} split": card.judged, **card.judged.slices}
    rows = [(marked.get(name, name), p.samples, *(_scored(p, one) for one in metrics)) for name, p in parts.items()]
    parted = [(name, _scored(card.judged, name)) for name in card.judged.metrics if name not in metrics]
    tables = ["In brackets: 95 % bootstrap intervals.", _table(("slice", "samples", *metrics), rows)]
    if parted:
        tables.append(_table((f"by class or object size, whole {JUDGED_SPLIT} split", "value"), parted))
    return "\n\n".join(tables)


def _scored(part: SliceScore, metric: str) -> str:
    return with_interval(part.metrics.get(metric), part.intervals.get(metric))


def _compared(card: Facts) -> str:
    against = card.report.against
    if against is None:
        return "There was no other model in production."
    if against.misfit is not None:
        return f"Production is run {against.run_id}; it cannot be judged on this data."
    rows = [
        (name, metric, change.value, change.reference, changed(change), tendency(metric, change))
        for name, metric, change in _changes(card)
    ]
    header = ("slice", "metric", "this model", "production", "difference", "is")
    return f"Production is run {against.run_id}, run on the same samples.\n\n{_table(header, rows)}"


def _calibration(card: Facts) -> str:
    """Expected calibration errors; the reliability diagrams are among the model's pictures."""
    errors = [] if card.judged is None else [name for name in general(card.judged) if name.endswith("/ECE")]
    if card.judged is None or not errors:
        return "No task of this model tells how sure it is."
    rows = [(name, _scored(card.judged, name), card.config.release.max_calibration_error) for name in errors]
    return _table(("expected calibration error", "value", "warned of above"), rows)


def _latency(exports: Exports) -> str:
    shape = ", ".join(f"{name} {'×'.join(map(str, sides))}" for name, sides in exports.inputs.items())
    note = f"Input {shape}, one CPU thread, {exports.eager.latency.repeats} repeats."
    return f"{note}\n\n{_table(*timing_table(exports))}"


def _int8(exports: Exports) -> str:
    header, rows = int8_table(exports)
    return "\n\n".join([int8_note(exports), *([_table(header, rows)] if rows else [])])


def _data(card: Facts) -> str:
    found, used = card.provenance, card.training_set
    span = f"{found.first:%Y-%m-%d} to {found.last:%Y-%m-%d}" if found.first and found.last else "no times"
    facts = [
        f"Dataset version {card.dataset.version}, DVC md5 {card.dataset.dvc_hash}",
        f"Training set {used.digest}: {used.samples} samples, window {used.window}",
        f"Frames: {_listing(found.splits)}; captured {span} ({_listing(found.captured_at_sources)})",
        f"Origins: {_listing(found.origins)}",
        f"Licences: {_listing(found.licences)}",
        *([f"Mined slices: {', '.join(used.slices)}"] if used.slices else []),
    ]
    windows = [(name, card.dataset.windows.get(name)) for name in used.windows_found]
    return f"{_list(facts)}\n\n{_table(('window', 'samples of the train split'), windows)}"


def _training(card: Facts) -> str:
    config, result, code = card.config, card.result, card.code
    best = "not defined" if result.best_metric is None else f"{result.best_metric:.4f}"
    state = " with uncommitted changes" if code.dirty else ""
    lock, image = code.lock_sha256 or "not known", code.image_digest or "none"
    facts = [
        f"{result.parameters:,} parameters: {config.model.backbone}, width {config.model.width}",
        f"{len(result.epochs)} epochs, {result.global_step} steps, batch {config.data.batch_size} over"
        f" {result.world_size} ranks, learning rate {config.optim.lr:g}, seed {result.seed}",
        f"Best checkpoint: step {result.best_step}, {result.monitor} {best} on val",
        f"Config digest {result.config_digest}; state {result.state_sha256}",
        f"Code {code.git_sha or 'not known'}{state}; lock {lock}; image {image}",
    ]
    return _list(facts)


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
