"""Files are written whole or not at all."""

import os

import pytest

from backproof.numerics.files import cache_directory, require_writable, write_whole
from backproof.theory.errors import InputError


def test_writes_text_and_bytes(tmp_path):
    assert write_whole(tmp_path / "a.txt", "σ′").read_text(encoding="utf-8") == "σ′"
    assert write_whole(tmp_path / "a.txt", b"\x00\x01").read_bytes() == b"\x00\x01"
    assert os.listdir(tmp_path) == ["a.txt"], "no temporary file is left"


@pytest.mark.parametrize("where", ["missing/a.txt", "."])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, where):
    with pytest.raises(InputError, match="cannot write") as caught:
        require_writable(tmp_path / where)
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = write_whole(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left"):
        write_whole(target, "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_link_is_followed_and_a_stream_is_written_to(tmp_path):
    (tmp_path / "there").mkdir()
    real, link = write_whole(tmp_path / "there" / "real.txt", "old"), tmp_path / "link.txt"
    link.symlink_to(real)
    write_whole(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    link.unlink()
    link.symlink_to(tmp_path / "gone" / "real.txt")
    with pytest.raises(InputError, match="link to"):
        write_whole(link, "new")


def test_the_cache_moves_where_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKPROOF_CACHE", str(tmp_path / "kernels"))
    assert cache_directory() == tmp_path / "kernels"


def test_the_cache_falls_back_where_home_is_not_writable(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("BACKPROOF_CACHE", str(blocked / "kernels"))
    assert cache_directory().is_dir()
