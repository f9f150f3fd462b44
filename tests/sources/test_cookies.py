"""Files of cookies: what is read, what is refused, and that messages quote none of them."""

import re

import pytest

from kinetics_prep.errors import BadOption
from kinetics_prep.sources import cookies

HEAD = "# Netscape HTTP Cookie File\n"
LINE = "host\tFALSE\t/\tFALSE\t{expires}\tname\tsecret\n"


@pytest.fixture
def write(tmp_path):
    def write(content: str) -> str:
        path = tmp_path / "cookies.txt"
        path.write_text(content, "utf-8")
        return str(path)

    return write


def test_no_file_is_no_cookies():
    assert cookies.text(None) is None and cookies.jar(None) is None


@pytest.mark.parametrize("head", [HEAD, "# HTTP Cookie File\n", HEAD.strip() + " and more words\n"])
def test_the_text_is_that_of_the_file(write, head):
    content = head + LINE.format(expires="1.5") + "\n# remark\n#HttpOnly_" + LINE.format(expires="")
    assert cookies.text(write(content)) == content


@pytest.mark.parametrize(
    "content, why",
    [
        (LINE.format(expires=0), "Netscape"),
        ("\n" + HEAD, "Netscape"),
        (HEAD + LINE.format(expires=0).replace("\tsecret", ""), "line 2"),
        (HEAD + LINE.format(expires=0).replace("\n", "\tmore\n"), "line 2"),
        (HEAD + "#HttpOnly_" + LINE.format(expires="never"), "line 2"),
        (HEAD + "# remark\n" + LINE.format(expires="1e5"), "line 3"),
        (HEAD + LINE.format(expires="-1"), "line 2"),
    ],
)
def test_a_file_of_something_else_is_refused_and_no_line_quoted(write, content, why):
    for read in (cookies.text, cookies.jar):
        with pytest.raises(BadOption, match=re.escape(why)) as caught:
            read(write(content))
        assert "secret" not in str(caught.value)


def test_cookies_without_an_end_last_as_long_as_the_session(write):
    (cookie,) = cookies.jar(write(HEAD + LINE.format(expires=0)))
    assert (cookie.name, cookie.value, cookie.domain, cookie.expires) == ("name", "secret", "host", None)


def test_cookies_that_have_expired_are_read_and_keep_their_time(write):
    (cookie,) = cookies.jar(write(HEAD + LINE.format(expires=1)))
    assert cookie.expires == 1
