"""`scotoma reproduce` and `scotoma list papers`."""

import re

import pytest

from scotoma.papers import ITEMS


def test_list_papers(scotoma):
    ended = scotoma("list", "papers")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("\n") == 1 + len(list(ITEMS))
    assert re.search("zhang2019/table2 +Accuracy and attack success", ended.out)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("zhang2019/tabel2",), "did you mean 'zhang2019/table2'?"),
        (("zhang2018",), "did you mean 'zhang2019'?"),
        (("zhang2019/table2", "--attack", "cw-lin"), "did you mean 'cw-linf'?"),
        (("zhang2019/table2", "--limit", "0"), "at least one image"),
        ((), "argument"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(scotoma, tmp_path, monkeypatch, args, says):
    monkeypatch.chdir(tmp_path)
    ended = scotoma("reproduce", *args)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("scotoma: ")
    assert ended.err.count("\n") == 1
    assert says in ended.err
    assert list(tmp_path.iterdir()) == []
