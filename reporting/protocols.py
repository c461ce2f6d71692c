"""Decides which evaluation protocol each run belongs to. Called by `read` and by the tables and plots.

A run names its protocol in result.json (key `protocol`). Older results and plain train.py runs don't. For those, the
protocol follows from the fields: the tested classes, and the data set that the prompts were trained on.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

#: The accuracies that each protocol reports, in per cent.
MEASURES = {
    "base2new": ("base", "new", "hm"),
    "few_shot": ("accuracy",),
    "cross_dataset": ("accuracy",),
    "domain_generalization": ("accuracy",),
}


def assign(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Return `runs` with the column `protocol` completed and a new column `role`.

    Afterwards `protocol` is a key of MEASURES. `role` is "source" for the training runs whose prompts are tested on
    other data sets, else "". A source run counts for both cross_dataset and domain_generalization.
    """
    named, trained_on = runs["protocol"], runs["trained_on"].fillna("")
    on_all = runs["part"] == "all"  # base and new classes are comparable in base2new only
    named_cross = on_all & (named == "cross_dataset")
    unnamed = on_all & ~named.isin(["few_shot", "cross_dataset"])
    transferred = (trained_on != "") & (trained_on != runs["dataset"])
    crossed = (unnamed & transferred) | (named_cross & (trained_on != runs["dataset"]))
    sources = set(trained_on[crossed | named_cross]) - {""}
    method = runs["trainer"] + "/" + runs["config"]
    is_source_dataset = runs["dataset"].isin(sources) & ~transferred
    # A named run is a source by itself. An unnamed one is a source if a run of the same method was tested elsewhere.
    source = is_source_dataset & (named_cross | (unnamed & method.isin(set(method[crossed]))))
    target = crossed & ~source
    test_only = runs["test_only"].astype(bool)
    runs = runs.assign(protocol="few_shot", role="")
    runs.loc[~on_all, "protocol"] = "base2new"
    runs.loc[source | target, "protocol"] = "cross_dataset"
    runs.loc[target & test_only, "protocol"] = "domain_generalization"
    runs.loc[source, "role"] = "source"
    return runs


def of_protocol(runs: "pd.DataFrame", protocol: str) -> "pd.DataFrame":
    """Return the runs that count for `protocol`, source runs first.

    Domain generalization without a tested target has no runs. Cross-dataset then has its source runs.
    """
    import pandas as pd

    is_source = runs["role"] == "source"
    targets = runs[(runs["protocol"] == protocol) & ~is_source]
    any_target = (~is_source & runs["protocol"].isin(["cross_dataset", "domain_generalization"])).any()
    if protocol == "cross_dataset":
        takes_sources = len(targets) > 0 or not any_target
    else:
        takes_sources = protocol == "domain_generalization" and len(targets) > 0
    return pd.concat([runs[is_source], targets]) if takes_sources else targets
