"""Bars on a terminal, nested ones below one another, and silence elsewhere."""

from __future__ import annotations

import pytest
from rich import console as rich_console

from scotoma.utils.progress import Progress, Silent


@pytest.fixture
def terminal(monkeypatch) -> None:
    monkeypatch.setattr(rich_console.Console, "is_terminal", property(lambda self: True))


def test_nested_bars_show_what_is_done_and_then_disappear(terminal, capsys):
    progress = Progress()
    with progress.bar("outer", 3) as outer:
        outer(1)
        with progress.bar("inner", 10) as inner:
            inner(4)
            assert progress._bars is not None
            progress.say("3 fooled")
            assert progress._bars.tasks[1].description == "inner, 3 fooled"
            progress.say("4 fooled")
            assert [(task.description, task.completed) for task in progress._bars.tasks] == [
                ("outer", 1),
                ("inner, 4 fooled", 4),
            ]
        progress.keep("a line that stays")
        assert [task.description for task in progress._bars.tasks] == ["outer"]
    assert progress._bars is None
    captured = capsys.readouterr()
    assert "outer" in captured.err
    assert "a line that stays\n" in captured.err
    assert captured.out == ""


def test_an_error_inside_closes_every_bar(terminal):
    progress = Progress()
    with (
        pytest.raises(RuntimeError, match="inside"),
        progress.bar("outer", 1),
        progress.bar("inner", 1),
    ):
        raise RuntimeError("inside")
    assert progress._bars is None
    with progress.bar("again", 1) as advance:
        advance(1)


def test_nothing_is_printed_where_there_is_no_terminal(capsys):
    for progress in (Progress(), Silent()):
        with progress.bar("work", 2) as advance:
            advance(2)
            progress.say("half")
            progress.keep("a line")
    assert capsys.readouterr() == ("", "")
