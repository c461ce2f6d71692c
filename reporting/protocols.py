"""Finds the evaluation protocol of each run. The modules `read`, `tables` and `plots` call these functions.

The key `protocol` of a run's result.json names the run's protocol. Results of older versions and of plain train.py runs
name no protocol. For these runs, the protocol is derived from the tested classes and from the data set that the prompts
were trained on.
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
    """Return a copy of `runs` with the protocol of every run in the column `protocol`, and with a new column `role`.

    Every protocol in the copy is a key of MEASURES. `role` is "source" if the run trained prompts that are tested on
    other data sets, else "". A source run counts for both cross_dataset and domain_generalization.
    """
    named, trained_on = runs["protocol"], runs["trained_on"].fillna("")
    on_all = runs["part"] == "all"  # runs on base or on new classes always belong to base2new
    named_cross = on_all & (named == "cross_dataset")
    unnamed = on_all & ~named.isin(["few_shot", "cross_dataset"])
    transferred = (trained_on != "") & (trained_on != runs["dataset"])
    crossed = (unnamed & transferred) | (named_cross & (trained_on != runs["dataset"]))
    sources = set(trained_on[crossed | named_cross]) - {""}
    method = runs["trainer"] + "/" + runs["config"]
    is_source_dataset = runs["dataset"].isin(sources) & ~transferred
    # A run on a source data set is a source run if its result.json names cross_dataset. If the file names neither
    # cross_dataset nor few_shot, the run is a source run only if prompts of the same method were tested on another data
    # set.
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

    A target run tests the prompts of a source run on another data set. For domain_generalization, source runs count
    only if domain_generalization has target runs. For cross_dataset, source runs count if cross_dataset has target
    runs, or if neither of the two protocols has target runs.
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
