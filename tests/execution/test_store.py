import errno
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from scotoma.execution.store import Store
from scotoma.utils.errors import InputError
from scotoma.utils.files import read_json, write_json, write_whole

CLAIM = {"model": "m", "threat": "linf:0.1"}
TABLE = pl.DataFrame({"index": [1, 2, 3], "linf": [0.1, float("inf"), 0.0]})


def test_the_same_claim_opens_again_and_another_is_refused(tmp_path):
    Store(tmp_path / "run", CLAIM)
    Store(tmp_path / "run", CLAIM)
    before = (tmp_path / "run" / "claim.json").read_bytes()
    with pytest.raises(
        InputError, match=r"another claim \(threat 'linf:0.1' there, 'linf:0.2' here\)"
    ):
        Store(tmp_path / "run", CLAIM | {"threat": "linf:0.2"})
    assert (tmp_path / "run" / "claim.json").read_bytes() == before


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(InputError, match="not empty and not a run"):
        Store(tmp_path, CLAIM)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_killed_while_it_wrote_its_claim_starts_again(tmp_path):
    (tmp_path / ".claim.json.4711").write_text('{"mod')
    Store(tmp_path, CLAIM)
    assert read_json(tmp_path / "claim.json") == CLAIM


def test_a_unit_is_computed_once_for_each_configuration(tmp_path):
    store, calls = Store(tmp_path, CLAIM), []

    def compute() -> pl.DataFrame:
        calls.append(1)
        return TABLE

    for _ in range(2):
        assert store.unit({"seed": 0, "attack": "pgd"}, compute).equals(TABLE)
    assert store.unit({"attack": "pgd", "seed": 0}, compute).equals(TABLE)
    assert len(calls) == 1
    store.unit({"attack": "pgd", "seed": 1}, compute)
    assert len(calls) == 2
    assert len(list(store.units.iterdir())) == 2


def test_a_unit_carries_its_configuration(tmp_path):
    store = Store(tmp_path, CLAIM)
    store.unit({"seed": 0}, lambda: TABLE)
    (path,) = store.units.iterdir()
    assert pl.read_parquet_metadata(path)["scotoma"] == '{"seed": 0}'


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.999])
def test_a_unit_cut_short_is_computed_again(tmp_path, share):
    store = Store(tmp_path, CLAIM)
    store.unit({"seed": 0}, lambda: TABLE)
    (path,) = store.units.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert store.unit({"seed": 0}, lambda: TABLE).equals(TABLE)
    assert path.read_bytes() == whole


def test_a_unit_that_was_altered_is_computed_again(tmp_path):
    """Any bit of it, also one that leaves a file which can be read."""
    store = Store(tmp_path, CLAIM)
    store.unit({"seed": 0}, lambda: TABLE)
    (path,) = store.units.iterdir()
    whole, calls = path.read_bytes(), []
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert store.unit({"seed": 0}, lambda: calls.append(1) or TABLE).equals(TABLE)
    assert len(calls) == len(range(0, len(whole), 7))
    assert [each.read_bytes() for each in store.units.iterdir()] == [whole]


def test_units_of_garbage_are_computed_again(tmp_path):
    store, rng = Store(tmp_path, CLAIM), np.random.default_rng(0)
    store.unit({"seed": 0}, lambda: TABLE)
    (path,) = store.units.iterdir()
    whole = path.read_bytes()
    for content in (
        rng.bytes(500),
        whole[:4] + rng.bytes(len(whole) - 8) + whole[-4:],
        b"PAR1" * 100,
    ):
        path.write_bytes(content)
        assert store.unit({"seed": 0}, lambda: TABLE).equals(TABLE)


def test_what_a_killed_run_left_half_written_goes(tmp_path):
    store = Store(tmp_path, CLAIM)
    store.unit({"seed": 0}, lambda: TABLE)
    (store.units / ".abc.parquet.4711").write_bytes(b"PAR1")
    with store.locked():
        assert len(list(store.units.iterdir())) == 1


def test_a_second_process_is_refused(tmp_path):
    store = Store(tmp_path, CLAIM)
    code = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with store.locked():
        pass
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another audit is writing"), store.locked():
            pytest.fail("two writers")
        other.kill()
    with store.locked():
        pass


def test_a_write_that_fails_leaves_what_was_there_and_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "findings.json"
    write_json(path, {"old": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        write_json(path, {"new": 2})
    assert caught.value.filename == str(path)
    assert read_json(path) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["findings.json"]


def test_write_whole_makes_folders(tmp_path):
    write_whole(tmp_path / "a" / "b" / "c", b"content")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"content"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_nan(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"rate": value})
    assert not list(tmp_path.iterdir())


def test_broken_json_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no such file; is .* the folder of a finished run"):
        read_json(tmp_path / "findings.json")
    (tmp_path / "findings.json").write_bytes(b'{"schema": \xff')
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path / "findings.json")
