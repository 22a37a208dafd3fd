"""Whether a server can be reached, without a long wait."""

import threading

from scotoma.utils.network import reachable


def test_a_server_that_does_not_answer_is_given_up(monkeypatch):
    ended = threading.Event()

    def wait(*_):
        ended.wait()
        raise OSError

    monkeypatch.setattr("socket.create_connection", wait)
    assert not reachable("https://huggingface.co", seconds=0.05)
    ended.set()


def test_the_proxy_is_asked_where_there_is_one(monkeypatch):
    requests = []

    class Connection:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    def connect(place, _):
        requests.append(place)
        return Connection()

    monkeypatch.setattr("socket.create_connection", connect)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert reachable("https://huggingface.co", seconds=30)
    monkeypatch.delenv("https_proxy")
    monkeypatch.setattr("scotoma.utils.network.getproxies", dict)
    assert reachable("https://huggingface.co", seconds=30)
    assert requests == [("proxy.example", 3128), ("huggingface.co", 443)]
