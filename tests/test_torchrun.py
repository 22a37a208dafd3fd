"""A command in several processes under torchrun: findings of one process, whatever crashes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from namespaces import FIRST_NODE, LINK, needs_namespaces, two_nodes
from processes import Process, together
from scotoma.models.checkpoint import read_safetensors

COMMAND = ["audit", "model.safetensors", "--data", "digits", "--threat", "linf:0.1", "--out", "run"]
QUICK = [*COMMAND, "--probes", "robustness,distance", "--attack", "fmn-linf", "--limit", "40"]


def start(
    folder: Path, model: Path, arguments: list[str], *torchrun: str, node: str | None = None
) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    if not (folder / "model.safetensors").exists():
        shutil.copy(model, folder / "model.safetensors")
    launcher = ["torch.distributed.run", *torchrun, "-m"] if torchrun else []
    return subprocess.Popen(
        [
            *(("ip", "netns", "exec", node) if node else ()),
            sys.executable,
            "-m",
            *launcher,
            "scotoma",
            *arguments,
        ],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | ({"GLOO_SOCKET_IFNAME": LINK} if node else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def found(folder: Path, run: str = "run") -> dict:
    """findings.json without what differs from one run to another of the same audit."""
    held = json.loads((folder / run / "findings.json").read_text())
    for key in ("started", "seconds", "processes"):
        held["provenance"].pop(key, None)
    return held


def finished(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return out


def of_one_process(folder: Path, model: Path, arguments: list[str]) -> dict:
    folder.mkdir(exist_ok=True)
    shutil.copy(model, folder / "model.safetensors")
    process = Process(folder, arguments)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return found(folder)


def test_two_processes_find_what_one_finds_and_print_it_once(tmp_path, digits_model):
    expected = of_one_process(tmp_path / "one", digits_model, QUICK)
    (tmp_path / "two").mkdir()
    shutil.copy(digits_model, tmp_path / "two" / "model.safetensors")
    ranks = together(tmp_path / "two", QUICK)
    assert [code for code, _, _ in ranks] == [0, 0], ranks
    same_as_one_process(tmp_path, expected, "".join(out for _, out, _ in ranks))


@pytest.mark.slow
def test_torchrun_finds_what_one_process_finds_and_prints_it_once(tmp_path, digits_model):
    expected = of_one_process(tmp_path / "one", digits_model, QUICK)
    torchrun = ("--standalone", "--nproc-per-node=2")
    out = finished(start(tmp_path / "two", digits_model, QUICK, *torchrun))
    same_as_one_process(tmp_path, expected, out)


def same_as_one_process(folder: Path, expected: dict, out: str) -> None:
    """Compare the run in `two`, whose processes printed `out`, with the one in `one`."""
    assert found(folder / "two") == expected
    assert out.count("report: run/report.html") == 1
    assert (folder / "two" / "run" / "report.html").exists()
    assert units(folder / "one") == units(folder / "two")


def test_bad_input_is_told_once(tmp_path, digits_model):
    shutil.copy(digits_model, tmp_path / "model.safetensors")
    ranks = together(tmp_path, [*QUICK[:-1], "0"])
    assert all(code for code, _, _ in ranks)
    errors = "".join(err for _, _, err in ranks)
    assert errors.count("scotoma: --limit 0: want at least one image") == 1


@pytest.mark.slow
def test_four_processes_with_all_probes(tmp_path, digits_model):
    arguments = [*COMMAND, "--limit", "300"]
    expected = of_one_process(tmp_path / "one", digits_model, arguments)
    finished(
        start(tmp_path / "four", digits_model, arguments, "--standalone", "--nproc-per-node=4")
    )
    assert found(tmp_path / "four") == expected


@pytest.mark.slow
def test_two_processes_patch_what_one_patches(tmp_path, digits_model):
    one, two = tmp_path / "one", tmp_path / "two"
    of_one_process(
        one,
        digits_model,
        [*COMMAND, "--probes", "robustness", "--attack", "min-linf", "--limit", "200"],
    )
    shutil.copytree(one, two)
    arguments = [
        "patch",
        "model.safetensors",
        "--data",
        "digits",
        "--audit",
        "run",
        "--out",
        "patched",
    ]
    arguments += ["--families", "gamma", "--epochs", "1"]
    finished(start(one, digits_model, arguments))
    out = finished(start(two, digits_model, arguments, "--standalone", "--nproc-per-node=2"))
    assert found(two, "patched") == found(one, "patched")
    assert (two / "patched" / "model-patched.safetensors").read_bytes() == (
        one / "patched" / "model-patched.safetensors"
    ).read_bytes()
    assert units(two / "patched", "after") == units(one / "patched", "after")
    assert [out.count(line) for line in ("epoch 1:", "report: ", "model: ")] == [1, 1, 1]


def units(folder: Path, run: str = "run") -> set[str]:
    return {path.name for path in (folder / run / "units").glob("*.parquet")}


def workers(launcher: subprocess.Popen) -> list[int]:
    """The processes that a torchrun has started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, -1])
def test_a_rank_that_is_killed_is_started_again(tmp_path, digits_model, which):
    arguments = [
        *COMMAND,
        "--probes",
        "robustness,blindspots",
        "--attack",
        "fmn-linf",
        "--limit",
        "300",
    ]
    expected = of_one_process(tmp_path / "one", digits_model, arguments)
    folder = tmp_path / "killed"
    launcher = start(
        folder, digits_model, arguments, "--standalone", "--nproc-per-node=2", "--max-restarts=1"
    )
    deadline = time.monotonic() + 120
    while len(units(folder)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(workers(launcher)[which], signal.SIGKILL)
    before = units(folder)
    assert 3 <= len(before) < len(units(tmp_path / "one"))
    finished(launcher)
    assert found(folder) == expected
    assert before <= units(folder)


@pytest.mark.slow
def test_all_ranks_killed_at_twenty_random_moments(tmp_path, digits_model):
    arguments = [
        *COMMAND,
        "--probes",
        "robustness,blindspots",
        "--attack",
        "fmn-linf",
        "--limit",
        "300",
    ]
    expected = of_one_process(tmp_path / "one", digits_model, arguments)
    folder, chance, before = tmp_path / "killed", random.Random(0), set[str]()
    for _ in range(20):
        launcher = start(folder, digits_model, arguments, "--standalone", "--nproc-per-node=2")
        deadline = time.monotonic() + chance.choice([1, 10, 60])
        while (
            len(units(folder)) <= len(before)
            and launcher.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 2))
        for pid in (*workers(launcher), launcher.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        launcher.communicate()
        assert before <= units(folder)
        before = units(folder)
    finished(start(folder, digits_model, arguments, "--standalone", "--nproc-per-node=2"))
    assert found(folder) == expected
    assert before <= units(folder) == units(tmp_path / "one")


def on_two_nodes(folder: Path, model: Path, arguments: list[str]) -> list[str]:
    """What the nodes print, of one process each."""
    with two_nodes() as names:
        options = [
            "--nnodes=2",
            "--nproc-per-node=1",
            f"--master-addr={FIRST_NODE}",
            "--master-port=29511",
        ]
        nodes = [
            start(folder, model, arguments, *options, f"--node-rank={rank}", node=name)
            for rank, name in enumerate(names)
        ]
        try:
            return [finished(node) for node in nodes]
        finally:
            for node in nodes:
                node.terminate()


@pytest.mark.slow
@needs_namespaces
def test_two_nodes_find_what_one_process_finds(tmp_path, digits_model):
    expected = of_one_process(tmp_path / "one", digits_model, QUICK)
    outs = on_two_nodes(tmp_path / "nodes", digits_model, QUICK)
    assert found(tmp_path / "nodes") == expected
    assert [out.count("report: run/report.html") for out in outs] == [1, 0]


@pytest.mark.slow
@needs_namespaces
def test_two_nodes_train_what_two_processes_and_one_train(tmp_path, digits_model, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv(
        "ATEN_CPU_CAPABILITY", "default"
    )  # float32: bf16 rounds by 100 times what is asserted
    arguments = [
        "train",
        "natural",
        "--data",
        "digits",
        "--arch",
        "small-cnn",
        "--threat",
        "linf:0.1",
        "--out",
        "trained",
    ]
    arguments += ["--epochs", "2", "--batch", "100", "--optimizer", "sgd", "--rate", "0.05"]
    finished(start(tmp_path / "one", digits_model, arguments))
    finished(start(tmp_path / "two", digits_model, arguments, "--standalone", "--nproc-per-node=2"))
    outs = on_two_nodes(tmp_path / "nodes", digits_model, arguments)
    assert [out.count("epoch 2: ") for out in outs] == [1, 0]
    one, two, nodes = (
        read_safetensors(tmp_path / name / "trained")[0] for name in ("one", "two", "nodes")
    )
    for name, value in nodes.items():
        assert torch.allclose(value, two[name], rtol=0, atol=1e-6), name
        assert torch.allclose(value, one[name], rtol=0, atol=1e-5), name
