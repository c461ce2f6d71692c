"""benchmarks/gpu.py: a small run on the CPU, and how parts and tests that fail are reported."""

import json

import gpu
import gpu_parts
import measure
import pytest
from gpu_parts import NEEDS_CUDA, Row


@pytest.fixture
def two_trainers(monkeypatch):
    monkeypatch.setattr(measure, "trainer_names", lambda: ["CoOp", "ZeroshotCLIP"])


def test_a_small_run_on_a_cpu(two_trainers, tmp_path, capsys):
    assert gpu.main(["--device", "cpu", "--small", "--json", str(tmp_path / "new" / "gpu.json")]) == 0
    content = json.loads((tmp_path / "new" / "gpu.json").read_text())
    assert content["failed"] == []
    rows = {(row["part"], row["case"]): row["figures"] for row in content["rows"]}
    assert [part for part, _ in rows] == [
        "conditions", *["steps"] * 2, *["precisions"] * 8, *["evaluation"] * 2, "determinism", "tests",
    ]  # fmt: skip
    assert {"device", "torch", "weights", "batch"} <= rows["conditions", "this machine"].keys()
    step = rows["steps", "MaPLe, fp16, 3 classes"]
    assert (step["graph_ms"], step["eager_mib"], step["computed_in"]) == (NEEDS_CUDA, NEEDS_CUDA, "fp32")
    assert step["naive/eager"] == pytest.approx(step["naive_ms"] / step["eager_ms"], abs=0.01)
    half = rows["precisions", "CoOp, bf16"]
    assert half["computed_in"] == "bf16"
    assert 0 < half["difference"] < gpu_parts.LIMITS["bf16"]
    assert half["first_loss"] > 0
    assert "first_loss" not in rows["precisions", "ZeroshotCLIP, bf16"]
    assert rows["evaluation", "MaPLe, fp16, 5 classes"]["fast_images_per_s"] > 0
    assert rows["determinism", "MaPLe, fp16, 5 classes"]["deterministic_ms"] > 0
    assert rows["tests", "pytest -m gpu"] == {"passed": NEEDS_CUDA}
    table = capsys.readouterr().out.split("## precisions\n\n")[1]
    assert table.startswith("| case | computed_in | first_loss | second_loss | difference | failure |\n| --- |")


def test_a_case_that_fails_is_named_and_the_others_run(two_trainers, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "PARTS", {"precisions": gpu_parts.precisions})
    monkeypatch.setitem(gpu_parts.LIMITS, "bf16", 1e-9)
    build = gpu_parts.synthetic.build_trainer

    def without_amp(name, clip, classes, prec, opts):
        if prec == "amp":
            raise RuntimeError("CUDA error:\nan example")
        return build(name, clip, classes, prec, opts)

    monkeypatch.setattr(gpu_parts.synthetic, "build_trainer", without_amp)
    assert gpu.main(["--device", "cpu", "--small", "--json", str(tmp_path / "gpu.json")]) == 1
    failed = json.loads((tmp_path / "gpu.json").read_text())["failed"]
    assert failed == [f"precisions: {name}, {prec}" for name in ("CoOp", "ZeroshotCLIP") for prec in ("amp", "bf16")]
    out = capsys.readouterr().out
    assert "| CoOp, amp |  |  |  |  | RuntimeError: CUDA error: an example |" in out
    assert "the logits differ too much from fp32; the limit is 1e-09 |" in out  # with the figures of this case
    assert "Failed: 4 of 9 cases" in out


ROW = f"""echo '{gpu.MARK}{{"part": "steps", "case": "a", "figures": {{"ms": 1.5}}}}'"""


@pytest.mark.parametrize(
    ("command", "seconds", "failure"),
    [
        ("echo a log line", 60, ""),
        ("exit 139", 60, "exit code 139"),
        ("exec sleep 60", 0, "stopped after 0.5 s"),
    ],
)
def test_the_rows_of_a_process_that_fails_or_hangs_are_kept(command, seconds, failure, capsys):
    rows = list(gpu.rows_of("steps", ["bash", "-c", f"{ROW}; {command}"], seconds))
    assert rows[0] == Row("steps", "a", {"ms": 1.5})
    assert rows[1:] == ([Row("steps", "the whole part", failure=failure)] if failure else [])
    assert ("a log line" in capsys.readouterr().out) == (not failure)


def test_failed_tests_are_named():
    output = "FAILED tests/test_gpu.py::test_a[x] - boom\n1 failed, 2 passed, 3 skipped in 1.00s"
    row = gpu.row_of_tests(["bash", "-c", f"echo '{output}'; exit 1"], 60)
    assert row.figures == {"failed": 1, "passed": 2, "skipped": 3}
    assert row.failure == "exit code 1: tests/test_gpu.py::test_a[x]"


def test_a_machine_without_gpu_is_told_how_to_try_the_benchmark(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        gpu.main([])
    assert stopped.value.code == 2
    assert "--device cpu --small" in capsys.readouterr().err
