"""Names of data sets, and what is said to a name that is none."""

import pytest

from scotoma.data import load_data
from scotoma.utils.errors import InputError


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("digts", "did you mean 'digits'"),
        ("fashion_mnist", "did you mean 'fashion-mnist'"),
        ("nzp:file.npz", "did you mean 'npz'"),
        ("digits:foo", "'digits' takes no path"),
        ("npz", "npz:PATH"),
        ("folder:", "folder:PATH"),
        ("", "known: digits"),
    ],
)
def test_unknown_names_are_refused_with_a_hint(spec, says):
    with pytest.raises(InputError) as error:
        load_data(spec)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bare_path_is_told_its_prefix(tmp_path):
    (tmp_path / "mine.npz").touch()
    with pytest.raises(InputError, match=r"npz:.*mine.npz"):
        load_data(str(tmp_path / "mine.npz"))
    with pytest.raises(InputError, match="write folder:"):
        load_data(str(tmp_path))
