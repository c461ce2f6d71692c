"""The plots of a report: which confusions the matrix shows, error marks, names of images."""

import numpy as np
from PIL import Image

from reporting import plots
from reporting.measures import Value
from reporting.paper import Method, Table


def ticks(labels):
    return [label.get_text() for label in labels]


def test_the_confusion_matrix_shows_where_most_errors_go():
    names = [f"class {number}" for number in range(60)]
    label = np.repeat(np.arange(60), 10)  # ten images of each class
    predicted = label.copy()
    for true in range(30):  # class 0 has most errors, class 29 has one
        predicted[10 * true : 10 * true + max(1, 9 - true)] = 59 - true
    (axes, _) = plots.confusion(predicted, label, names).axes
    rows, columns = ticks(axes.get_yticklabels()), ticks(axes.get_xticklabels())
    assert len(rows) == plots.CLASSES
    for true in range(9):
        assert names[true] in rows
        assert names[59 - true] in columns, "a confusion is in sight though its predicted class has no errors"
    shown = axes.images[0].get_array()
    assert shown[rows.index("class 0"), columns.index("class 59")] == 90


def test_a_confusion_matrix_without_errors_shows_the_diagonal():
    (axes, _) = plots.confusion(np.arange(3), np.arange(3), ["a", "b", "c"]).axes
    assert (axes.images[0].get_array() == 100 * np.eye(3)).all()


def test_one_seed_has_no_error_mark():
    methods = [
        Method(("MaPLe",), {"EuroSAT": {"accuracy": Value(80.0, 1.0)}}),
        Method(("CoOp",), {"EuroSAT": {"accuracy": Value(70.0)}}),
    ]
    figure = plots.bars(Table(("method",), ["EuroSAT"], methods, [], []), "few_shot", "accuracy, %")
    (axes,) = figure.axes
    marks = [container for container in axes.containers if type(container).__name__ == "ErrorbarContainer"]
    assert [len(mark.lines[2][0].get_segments()) for mark in marks] == [1, 0]


def test_the_worst_images_have_file_names():
    figure = plots.worst([(Image.new("RGB", (4, 4)), "a_long_name_of_a_photo_2024-05.jpg", "cat", "dog", 0.01)])
    (axes,) = figure.axes
    assert axes.get_title().splitlines()[:3] == ["…me_of_a_photo_2024-05.jpg", "cat", "predicted dog"]
