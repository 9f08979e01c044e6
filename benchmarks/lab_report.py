"""What the laboratory found, as Markdown: a table a bed, differences, wins and losses, and choices put to the proof."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from lab_bed import figures
from lab_judge import (
    MEASURES,
    Difference,
    Fold,
    Judged,
    average,
    difference,
    leave_one_out,
    lost_by,
    lost_with,
    over_families,
)

from cmcr.numbers import chance_recall

SHOWN = ("R@1", "R@5", "R@10", "AUC")
OTHERS = {
    "kept left": "kept left",
    "kept right": "kept right",
    "text left": "text left → right",
    "text right": "text right → left",
    "seconds": "seconds",
}
"""Name in a result: column."""
VERDICTS = ("win", "tie", "loss")

EXPLAINED = (
    "Percent, both directions averaged, ties counted against us; mean ± standard deviation over the seeds. AUC is 1 "
    "minus the normalised mean rank. *kept*: R@10 of a side's outer rows and their true texts after connecting, in "
    "percent of that in the raw space. *text*: R@10 of one side's texts and the other side's outer rows."
)
DIFFERENCES = (
    "Points above (+) or below (-) the best of the baselines, which is chosen in each measure and on each bed by the "
    "result itself, with the 95 % bootstrap interval over pairs drawn anew, seeds averaged. A win or a loss is an "
    "interval that leaves 0 out; of 20 intervals one errs by chance."
)
REGRET = (
    "Regret, in percent: the mean of 1 - R@1 / best R@1, 1 - R@10 / best R@10 and 1 - least AUC error / AUC error, the "
    "best being that of the recipes listed, on the same bed; over beds, the mean over families of the mean in each."
)
LEFT_OUT = (
    "Each family of beds (a bed and all that was made of its rows) is judged by that recipe which has the least mean "
    "regret on the other families; points lost are against the best recipe on the judged bed; "
    "the last column tells R@1, R@10 and AUC against the best baseline, as the tables below."
)

CRITERIA = (
    "For each bed and seed that recipe is taken whose space has the largest of a number that `connect` finds without a "
    "pair; regret and points lost as above, the mean over families. A criterion is worth its while where it loses less "
    "than always taking one recipe."
)


def grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, the first column left-aligned."""
    rows = [f"| {' | '.join(row)} |" for row in (head, *lines)]
    return "\n".join([rows[0], "|---|" + "--:|" * (len(head) - 1), *rows[1:]])


def bed_table(bed: Judged) -> str:
    """Return every recipe's means and deviations over the seeds, beside chance."""
    chance = [f"{100 * np.mean([chance_recall(n, k) for n in bed.sizes]):.1f}" for k in (1, 5, 10)]
    lines = [["chance", *chance, "50.0", *[""] * len(OTHERS)]]
    for name, runs in bed.runs.items():
        means = [{m: x.mean() for m, x in figures(np.array(run["ranks"]), bed.sizes).items()} for run in runs]
        cells = [_spread([run[measure] for run in means]) for measure in SHOWN]
        cells += [_spread([run[key] for run in runs if key in run]) for key in OTHERS]
        failed = [run["failed"] for run in runs if "failed" in run]
        lines.append([f"{name} (failed: {failed[0]})" if failed else name, *cells])
    gallery = " to ".join(f"{n:,}" for n in dict.fromkeys((bed.sizes.min(), bed.sizes.max())))
    head = ["recipe", *SHOWN, *OTHERS.values()]
    about = f"{len(bed.sizes):,} pairs, gallery of {gallery}{bed.rows}."
    return f"### {bed.name}\n\n{about}\n\n{grid(head, lines)}"


def _spread(values: Sequence[float]) -> str:
    known = [value for value in values if not np.isnan(value)]
    return f"{np.mean(known):.1f} ± {np.std(known, ddof=min(1, len(known) - 1)):.1f}" if known else ""


def _signed(found: Difference) -> str:
    shown = f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"
    return shown if found.verdict == "tie" else f"{shown} {found.verdict}"


def difference_tables(beds: Sequence[Judged], recipes: Sequence[str], against: Sequence[str]) -> str:
    """Return each recipe's differences on every bed, and the count of wins, ties and losses."""
    found = {
        (bed.name, name): [difference(bed, name, against, measure) for measure in MEASURES]
        for bed in beds
        for name in recipes
    }
    parts = [f"### Against the best of {', '.join(against)}\n\n{DIFFERENCES}", _count(beds, recipes, found)]
    for name in recipes:
        lines = [[bed.name, *(_signed(each) for each in found[bed.name, name])] for bed in beds]
        parts.append(grid([name, *MEASURES], lines))
    return "\n\n".join(parts)


def _count(beds: Sequence[Judged], recipes: Sequence[str], found: dict[tuple[str, str], list[Difference]]) -> str:
    groups = {"given": [bed for bed in beds if not bed.derived], "derived": [bed for bed in beds if bed.derived]}
    groups = {label: group for label, group in groups.items() if group}
    head = ["wins / ties / losses", *(f"{measure}, {label}" for label in groups for measure in MEASURES)]
    lines = []
    for name in recipes:
        line = [name]
        for group in groups.values():
            for number in range(len(MEASURES)):
                counted = Counter(found[bed.name, name][number].verdict for bed in group)
                line.append(" / ".join(str(counted[verdict]) for verdict in VERDICTS))
        lines.append(line)
    return grid(head, lines)


def choice_tables(beds: Sequence[Judged], recipes: Sequence[str], against: Sequence[str]) -> str:
    """Return every recipe's mean regret, and what is chosen without a family and lost on it."""
    seen = average(beds, recipes)
    order = sorted(recipes, key=lambda name: seen[name])
    parts = [
        f"### Chosen without the judged bed\n\n{REGRET}",
        grid(["recipe", "regret, all beds"], [[name, f"{100 * seen[name]:.1f}"] for name in order]),
    ]
    folds = leave_one_out(beds, recipes)
    if not folds:
        return "\n\n".join([*parts, "One family of beds: nothing is left to choose by; give another folder."])
    head = ["judged bed", "chosen without it", "regret on the others", "regret", *(f"{m} lost" for m in MEASURES)]
    lines = _fold_lines(folds, {bed.name: bed for bed in beds}, against)
    return "\n\n".join([*parts, LEFT_OUT, grid([*head, "against the baselines"], lines), _kept(folds)])


def _fold_lines(folds: Sequence[Fold], beds: dict[str, Judged], against: Sequence[str]) -> Iterable[list[str]]:
    for fold in folds:
        for bed, lost in fold.lost.items():
            points = [f"{lost[measure]:.1f}" for measure in MEASURES]
            verdicts = [difference(beds[bed], fold.choice, against, measure).verdict for measure in MEASURES]
            shown = [f"{100 * fold.expected:.1f}", f"{100 * lost['regret']:.1f}", *points, ", ".join(verdicts)]
            yield [bed, fold.choice, *shown]


def _kept(folds: Sequence[Fold]) -> str:
    chosen = list(dict.fromkeys(fold.choice for fold in folds))
    if len(chosen) == 1:
        return f"Every family leaves the same choice: **{chosen[0]}**."
    return f"The choice depends on which family is left out: {', '.join(chosen)}."


def criteria_table(beds: Sequence[Judged], recipes: Sequence[str], criteria: Sequence[str]) -> str:
    """Return what is lost where a number without pairs chooses the recipe, and where one recipe is always taken."""
    found = {name: [lost_by(bed, name, recipes) for bed in beds] for name in criteria}
    found |= {f"always {name}": [lost_with(bed, name, recipes) for bed in beds] for name in recipes}
    lines = []
    for name, each in found.items():
        known = [(bed, lost) for bed, lost in zip(beds, each, strict=True) if lost]
        if len(known) < len(beds):
            continue
        means = [over_families(beds, [lost[key] for _, lost in known]) for key in ("regret", *MEASURES)]
        worst, most = max(known, key=lambda one: one[1]["R@10"])
        cells = [f"{100 * means[0]:.1f}", *(f"{mean:.1f}" for mean in means[1:])]
        lines.append([name, *cells, f"{most['R@10']:.1f} ({worst.name})"])
    head = ["chosen by", "regret", *(f"{measure} lost" for measure in MEASURES), "most R@10 lost"]
    return f"### Chosen without pairs\n\n{CRITERIA}\n\n{grid(head, lines)}"


def report(
    beds: Sequence[Judged], recipes: Sequence[str], against: Sequence[str], criteria: Sequence[str], command: str
) -> str:
    """Return the whole report; the wins and the choices before the long tables."""
    about = f"`{command}`. {EXPLAINED}"
    if stale := sum(bed.stale for bed in beds):
        about += f" **Measured by other code of cmcr than today's: {stale} results** (`--anew RECIPES`)."
    parts = [f"## Quality on beds of real vectors\n\n{about}", choice_tables(beds, recipes, against)]
    parts.append(criteria_table(beds, recipes, criteria))
    parts += [difference_tables(beds, recipes, against), *(bed_table(bed) for bed in beds)]
    return "\n\n".join(parts)
