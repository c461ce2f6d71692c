"""Makes the table of a paper: a row for each method, a column for each data set. report.py --layout paper prints it.

Each measure has a block of rows. A method's row is followed by its published figures, if there are any for the same
data set, backbone and number of shots. The average covers only the data sets that all methods have.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from reporting.measures import Value, summarize
from reporting.protocols import MEASURES
from reporting.tables import Row, escape_latex, sources

#: The formats of `show`.
FORMS = ("terminal", "markdown", "latex")
TITLES = {"base": "Base classes", "new": "New classes", "hm": "Harmonic mean", "accuracy": "Accuracy"}
_AVERAGE = "average"


@dataclass(frozen=True)
class Method:
    """A row of the table: what distinguishes the method from the others, and its values by data set."""

    names: tuple[str, ...]  # trainer; also config, backbone and shots if they differ between methods
    values: Mapping[str, Mapping[str, Value]]  # data set or "average" -> measure -> value


@dataclass(frozen=True)
class Table:
    """The content of the table."""

    heads: tuple[str, ...]  # titles of the columns that name the method
    datasets: list[str]  # the data sets, then "average" if there are several
    methods: list[Method]
    left_out: list[str]  # data sets that the average leaves out, because a method lacks them
    sources: list[str]  # a text for each source of published figures


def table(rows: Sequence[Row], protocol: str) -> Table:
    """Arrange the rows of `tables.rows` as methods by data sets."""
    by_method: dict[tuple[str, str, int, str], dict[str, Row]] = {}
    for row in rows:
        if row.dataset != _AVERAGE:
            key = (row.trainer, row.config, row.shots, row.backbone or "")
            by_method.setdefault(key, {})[row.dataset] = row
    datasets = list(dict.fromkeys(dataset for found in by_method.values() for dataset in found))
    targets = [dataset for dataset in datasets if not dataset.endswith("(source)")]
    common = [dataset for dataset in targets if all(_is_complete(found.get(dataset)) for found in by_method.values())]
    kinds = list(zip(*by_method, strict=True))
    shown = [place for place, kind in enumerate(kinds) if place == 0 or len(set(kind)) > 1]
    methods = []
    for key, found in by_method.items():
        values: dict[str, Mapping[str, Value]] = {dataset: row.values for dataset, row in found.items()}
        if len(targets) > 1:
            values[_AVERAGE] = _average(found, common, protocol)
        methods.append(Method(tuple(str(key[place]) for place in shown), values))
    heads = tuple(("method", "config", "shots", "backbone")[place] for place in shown)
    columns = [*datasets, *([_AVERAGE] if len(targets) > 1 else [])]
    left_out = [dataset for dataset in targets if dataset not in common]
    return Table(heads, columns, methods, left_out, sources(rows))


def _is_complete(row: Row | None) -> bool:
    """Return whether a method has a result for each measure on a data set. A failed run has none."""
    return row is not None and all(value.mean is not None for value in row.values.values())


def _average(rows: Mapping[str, Row], datasets: Sequence[str], protocol: str) -> Mapping[str, Value]:
    """Average a method's results, {data set: row}, over data sets. Without data sets, all values are unknown."""
    frames = [frame for dataset in datasets if (frame := rows[dataset].by_seed) is not None]
    return summarize(frames, MEASURES[protocol])[0] if frames else dict.fromkeys(MEASURES[protocol], Value())


def show(content: Table, protocol: str, form: str) -> str:
    """Return the table as text.

    Args:
        form: one of FORMS. In Markdown and LaTeX, the best value of a column is bold and the second-best underlined.
            The LaTeX needs the package booktabs.
    """
    blocks = [(TITLES[measure], _block(content, measure, form)) for measure in MEASURES[protocol]]
    if form == "latex":
        return _latex(content, blocks)
    texts = []
    for title, lines in blocks:
        style = "github" if form == "markdown" else "simple"
        text = tabulate(lines, [*content.heads, *content.datasets], style, disable_numparse=True)
        texts.append(f"**{title}**\n\n{text}" if form == "markdown" else f"{title}\n\n{text}")
    return "\n\n".join([*texts, *notes(content), *content.sources])


def notes(content: Table) -> list[str]:
    """Return a sentence on what the average leaves out. The list is empty if it leaves out nothing."""
    if not content.left_out:
        return []
    return [f"The average leaves out {', '.join(content.left_out)}, because not all methods were run there."]


def _block(content: Table, measure: str, form: str) -> list[list[str]]:
    """Return the lines of one measure: for each method a line, and a line of published figures if there are any."""
    best = {dataset: _ranked(content, dataset, measure) for dataset in content.datasets}
    escape: Callable[[str], str] = escape_latex if form == "latex" else str
    lines = []
    for method in content.methods:
        values = [method.values.get(dataset, {}).get(measure, Value()) for dataset in content.datasets]
        cells = [_cell(value, best[dataset], form) for value, dataset in zip(values, content.datasets, strict=True)]
        lines.append([*map(escape, method.names), *cells])
        if any(value.paper is not None for value in values):
            published = ["-" if value.paper is None else f"{value.paper:.2f}" for value in values]
            names = [f"{method.names[0]} (published)", *method.names[1:]]
            lines.append([*map(escape, names), *published])
    return lines


def _ranked(content: Table, dataset: str, measure: str) -> list[str]:
    """Return the best and the second-best mean of a column, as they are printed. Equal texts are equally good."""
    means = [method.values.get(dataset, {}).get(measure, Value()).mean for method in content.methods]
    texts = {f"{mean:.2f}" for mean in means if mean is not None}
    return sorted(texts, key=float, reverse=True)[:2] if len(texts) > 1 else []


def _cell(value: Value, best: Sequence[str], form: str) -> str:
    if value.mean is None:
        return "-"
    text = f"{value.mean:.2f}"
    marks = {"markdown": ("**{}**", "<u>{}</u>"), "latex": (r"\textbf{{{}}}", r"\underline{{{}}}")}
    if form in marks and text in best:
        text = marks[form][best.index(text)].format(text)
    if value.std is None:
        return text
    return text + (rf" {{\scriptsize$\pm${value.std:.2f}}}" if form == "latex" else f" ± {value.std:.2f}")


def _latex(content: Table, blocks: Sequence[tuple[str, list[list[str]]]]) -> str:
    """Return a LaTeX table that needs the package booktabs."""
    width = len(content.heads) + len(content.datasets)
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{'l' * len(content.heads)}{'r' * len(content.datasets)}}}",
        r"\toprule",
        " & ".join(escape_latex(title) for title in (*content.heads, *content.datasets)) + r" \\",
    ]
    for title, block in blocks:
        lines.append(r"\midrule")
        if len(blocks) > 1:
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{title}}}}} \\")
        lines += [" & ".join(cells) + r" \\" for cells in block]
    comments = [f"% {escape_latex(note)}" for note in (*notes(content), *content.sources)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *comments])
