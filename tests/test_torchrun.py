"""The same command in several processes, under torchrun: the same findings as in one, whatever happens to a process."""

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

COMMAND = ["audit", "model.safetensors", "--data", "digits", "--threat", "linf:0.1", "--out", "run"]
QUICK = [*COMMAND, "--probes", "robustness,distance", "--attack", "fmn-linf", "--limit", "300"]


def start(folder: Path, model: Path, arguments: list[str], *torchrun: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    if not (folder / "model.safetensors").exists():
        shutil.copy(model, folder / "model.safetensors")
    launcher = ["torch.distributed.run", *torchrun, "-m"] if torchrun else []
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "scotoma", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def found(folder: Path) -> dict:
    """findings.json without what differs from one run to another of the same audit."""
    held = json.loads((folder / "run" / "findings.json").read_text())
    for key in ("started", "seconds", "processes"):
        held["provenance"].pop(key, None)
    return held


def finished(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return out


def of_one_process(folder: Path, model: Path, arguments: list[str]) -> dict:
    finished(start(folder, model, arguments))
    return found(folder)


def test_two_processes_find_what_one_finds_and_print_it_once(tmp_path, digits_model):
    expected = of_one_process(tmp_path / "one", digits_model, QUICK)
    out = finished(start(tmp_path / "two", digits_model, QUICK, "--standalone", "--nproc-per-node=2"))
    assert found(tmp_path / "two") == expected
    assert out.count("report: run/report.html") == 1
    assert (tmp_path / "two" / "run" / "report.html").exists()
    assert units(tmp_path / "one") == units(tmp_path / "two")


def test_bad_input_is_told_once(tmp_path, digits_model):
    arguments = [*QUICK[:-1], "0"]
    process = start(tmp_path / "bad", digits_model, arguments, "--standalone", "--nproc-per-node=2")
    _, err = process.communicate(timeout=300)
    assert process.returncode
    assert err.count("scotoma: --limit 0: want at least one image") == 1


@pytest.mark.slow
def test_four_processes_with_all_probes(tmp_path, digits_model):
    arguments = [*COMMAND, "--limit", "300"]
    expected = of_one_process(tmp_path / "one", digits_model, arguments)
    finished(start(tmp_path / "four", digits_model, arguments, "--standalone", "--nproc-per-node=4"))
    assert found(tmp_path / "four") == expected


def units(folder: Path) -> set[str]:
    return {path.name for path in (folder / "run" / "units").glob("*.parquet")}


def workers(launcher: subprocess.Popen) -> list[int]:
    """The processes that a torchrun has started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, -1])
def test_a_rank_that_is_killed_is_started_again(tmp_path, digits_model, which):
    arguments = [*COMMAND, "--probes", "robustness,blindspots", "--attack", "fmn-linf", "--limit", "300"]
    expected = of_one_process(tmp_path / "one", digits_model, arguments)
    folder = tmp_path / "killed"
    launcher = start(folder, digits_model, arguments, "--standalone", "--nproc-per-node=2", "--max-restarts=1")
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
    arguments = [*COMMAND, "--probes", "robustness,blindspots", "--attack", "fmn-linf", "--limit", "300"]
    expected = of_one_process(tmp_path / "one", digits_model, arguments)
    folder, chance, before = tmp_path / "killed", random.Random(0), set[str]()
    for _ in range(20):
        launcher = start(folder, digits_model, arguments, "--standalone", "--nproc-per-node=2")
        deadline = time.monotonic() + chance.choice([1, 10, 60])
        while len(units(folder)) <= len(before) and launcher.poll() is None and time.monotonic() < deadline:
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


NAMESPACE = ["unshare", "--net", "true"]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("ip") is None or subprocess.run(NAMESPACE, check=False).returncode != 0, reason="needs network namespaces"
)
def test_two_nodes_in_two_network_namespaces(tmp_path, digits_model):
    expected = of_one_process(tmp_path / "one", digits_model, QUICK)
    names = [f"scotoma{os.getpid()}{end}" for end in "ab"]

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", names[0][-15:], "type", "veth", "peer", "name", names[1][-15:])
        for host, name in enumerate(names, 1):
            link = name[-15:]
            ip("link", "set", link, "netns", name)
            ip("-n", name, "addr", "add", f"10.211.0.{host}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        folder = tmp_path / "nodes"
        folder.mkdir()
        shutil.copy(digits_model, folder / "model.safetensors")
        nodes = [
            subprocess.Popen(
                [
                    *(
                        "ip",
                        "netns",
                        "exec",
                        name,
                        sys.executable,
                        "-m",
                        "torch.distributed.run",
                        "--nnodes=2",
                        "--nproc-per-node=1",
                    ),
                    *(f"--node-rank={rank}", "--master-addr=10.211.0.1", "--master-port=29511", "-m", "scotoma", *QUICK),
                ],
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank, name in enumerate(names)
        ]
        outs = [finished(node) for node in nodes]
        assert found(folder) == expected
        assert [out.count("report: run/report.html") for out in outs] == [1, 0]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)
