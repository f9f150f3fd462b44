"""Videos from servers: every answer ends in its own reason after the right number of attempts, and nothing partial
is taken for whole."""

import contextlib
import dataclasses
import gzip
import os
import threading
import urllib.parse

import loopback
import pytest
from conftest import numbered_frames, plan_row, write_video

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import ledger
from kinetics_prep.errors import BadAddress, BadOption, ClipError, Network, NotFound
from kinetics_prep.runs.clip import prepare_row
from kinetics_prep.runs.context import RunContext
from kinetics_prep.sources import Fetching, Politeness, open_sources
from kinetics_prep.sources.source import Download

AT_ONCE = Politeness(backoff_seconds=0, pause_seconds=0)
"""For tests that are not about the pace."""

VIDEO = bytes(range(256)) * 40
OK, MISSING, BROKEN = (200, {}, b"video"), (404, {}, b""), (500, {}, b"oops")
CUT_SHORT = (200, {"Content-Length": "1000"}, b"only this")


def source(template: str, scratch, **settings):
    fetching = Fetching((template,), **({"politeness": AT_ONCE} | settings))
    return open_sources(fetching, scratch).places[-1]


@pytest.fixture
def fetch(server, tmp_path):
    """Fetches a row through a template that continues the server's URL; checks that nothing stays in scratch."""
    scratch = tmp_path / "scratch"

    @contextlib.contextmanager
    def fetch(template: str, row: PlanRow, **settings):
        try:
            with next(source(server.url + template, scratch, **settings).candidates(row)) as fetched:
                yield fetched
        finally:
            assert not scratch.exists() or not list(scratch.iterdir())

    return fetch


def refusal(fetch, template="/{id}.mp4", row=None, **settings) -> ClipError:
    """Why there is no video for a row."""
    with pytest.raises(ClipError) as caught, fetch(template, row or plan_row(), **settings):
        pass
    return caught.value


# Addresses ------------------------------------------------------------------------------------


def test_a_whole_video_has_no_end_to_put_into_an_address(server, fetch):
    server.says("/abc.mp4", OK)
    with fetch("/{id}.mp4", plan_row(start=0.0, end=None)) as fetched:
        assert fetched.path.read_bytes() == b"video"
    error = refusal(fetch, "/{id}_{end}.mp4", plan_row(end=None))
    assert "the row is a whole video" in str(error)
    assert (type(error), error.attempts) == (BadAddress, 0)


def test_a_template_downloads_the_video_of_a_row(server, fetch):
    server.says("/abc.mp4", OK)
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == b"video"
        assert (fetched.name, fetched.origin) == ("abc.mp4", server.url + "/abc.mp4")
        assert (fetched.begins_seconds, fetched.attempts, fetched.source) == (None, 1, "http")


@pytest.mark.parametrize(
    "template, path",
    [
        ("/{id}_{start:06d}_{end:06d}.mp4", "/abc_000005_000015.mp4"),
        ("/{id}_{start}_{end}.mp4", "/abc_5_15.mp4"),
        ("/{split}/{label}/{id}.mp4?t={start}", "/train/using%20segway/abc.mp4?t=5"),
        ("/{id}_{start:.1f}.mp4", "/abc_5.0.mp4"),
    ],
)
def test_an_address_that_says_start_gives_the_clip_itself(server, fetch, template, path):
    server.says(path, OK)
    with fetch(template, plan_row()) as fetched:
        assert fetched.begins_seconds == 5.0
    assert server.requested == [path]


def test_fractions_of_seconds_go_into_the_address_as_they_are(server, fetch):
    server.says("/abc_1.5_11.25.mp4", OK)
    with fetch("/{id}_{start}_{end}.mp4", plan_row("abc", 1.5, 11.25)) as fetched:
        assert fetched.begins_seconds == 1.5


def test_fractions_that_do_not_fit_the_template_refuse_the_row(server, fetch):
    error = refusal(fetch, "/{id}_{start:06d}", plan_row("abc", 1.5, 2))
    assert "does not fit start 1.5" in str(error) and error.reason == "bad_address"
    assert server.requested == []


@pytest.mark.parametrize("media_id", ["a b", "a&b=c", "a+b", "(a) [b]", "it's", "été", "-abc", "a,b.c"])
def test_an_odd_id_arrives_at_the_server_as_it_is(server, fetch, media_id):
    server.answers = {f"/v/{urllib.parse.quote(media_id, safe='')}.mp4": [OK]}
    with fetch("/v/{id}.mp4", plan_row(media_id)) as fetched:
        assert fetched.name == f"{media_id}.mp4"
    (requested,) = server.requested
    assert urllib.parse.unquote(requested) == f"/v/{media_id}.mp4"


@pytest.mark.parametrize(
    "template",
    [
        "http://host/video.mp4",
        "http://host/{youtube_id}.mp4",
        "http://host/{id}{",
        "http://host/{id}_{}.mp4",
        "http://host/{id}_{0}.mp4",
        "http://host/{id:06d}.mp4",
        "http://host/{id.__class__}.mp4",
        "http://host/{id}_{start!x}.mp4",
        "http://host/{id}_{start:06q}.mp4",
        "http:///{id}.mp4",
        "http://[::1/{id}.mp4",
    ],
)
def test_a_bad_template_is_refused_before_the_run(tmp_path, template):
    with pytest.raises(BadOption, match="--videos"):
        source(template, tmp_path)


def test_a_password_in_the_address_is_used_and_not_written_down(server, tmp_path):
    server.says("/abc.mp4", OK)
    place = source(server.url.replace("http://", "http://me:secret@") + "/{id}.mp4", tmp_path / "scratch")
    with next(place.candidates(plan_row())) as fetched:
        assert fetched.origin == server.url.replace("http://", "http://***@") + "/abc.mp4"
    assert server.requests[0].headers["Authorization"].startswith("Basic ")
    with pytest.raises(NotFound) as caught, next(place.candidates(plan_row("missing"))):
        pass
    assert "secret" not in str(caught.value) + place.name


@pytest.fixture
def other_server(monkeypatch):
    """A second server, which has another name."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with loopback.running() as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        yield server


@pytest.mark.parametrize("header", ["Authorization", "Cookie"])
def test_a_redirection_takes_neither_password_nor_cookies_to_another_host(server, other_server, tmp_path, header):
    """One at a time, as `http.cookiejar` sends no cookies to an address with a password in it."""
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tabc123\n")
    server.says("/abc.mp4", (302, {"Location": "/next.mp4"}, b""))
    server.says("/next.mp4", (302, {"Location": f"{other_server.url}/abc.mp4"}, b""))
    other_server.says("/abc.mp4", OK)
    address = server.url if header == "Cookie" else server.url.replace("http://", "http://me:secret@")
    place = source(address + "/{id}.mp4", tmp_path / "scratch", cookies=str(cookies))
    with next(place.candidates(plan_row())) as fetched:
        assert fetched.path.read_bytes() == b"video"
    assert [header in request.headers for request in server.requests] == [True, True]
    (request,) = other_server.requests
    assert not {"Authorization", "Cookie"} & set(request.headers)


def test_each_request_is_announced_with_its_own_host(server, other_server, tmp_path):
    server.says("/abc.mp4", (302, {"Location": "/next.mp4"}, b""))
    server.says("/next.mp4", (302, {"Location": f"{other_server.url}/abc.mp4"}, b""))
    other_server.says("/abc.mp4", OK)
    requests = []
    place = source(server.url + "/{id}.mp4", tmp_path / "scratch")
    download = place.source.download(
        plan_row(), tmp_path / "video", lambda host: requests.append((host, len(server.requests)))
    )
    assert requests == [("127.0.0.1", 0), ("127.0.0.1", 1), ("localhost", 2)]
    assert download == Download("abc.mp4") and (tmp_path / "video").read_bytes() == b"video"


@pytest.mark.parametrize(
    "location",
    ["http://me:secret@a..b/x", "//me:secret@/", "ftp://me:secret@h/", "http://me:secret@127.0.0.1:1/", None],
)
def test_no_message_names_a_password(server, tmp_path, location):
    """The last one loops."""
    address = server.url.replace("http://", "http://me:sec@ret@") + "/{id}.mp4"
    server.says("/abc.mp4", (302, {"Location": location or address.format(id="abc")}, b""))
    place = source(address, tmp_path / "scratch")
    with pytest.raises(ClipError) as caught, next(place.candidates(plan_row())):
        pass
    assert "ret" not in str(caught.value).replace("retries", "")


SIGNED = "?X-Amz-Signature=signed-by-us&token=abc&v={id}&x=0123456789abcdef"
SECRETS = ("signed-by-us", "abc&", "0123456789abcdef", "signed-by-them", "me:", "pass-word")


def refuse_behind_a_redirection(handler):
    """A server that quotes the signature of the address to which it redirects."""
    if handler.path.startswith("/elsewhere"):
        handler.send_response(403, "no signed-by-them")
        handler.end_headers()
    else:
        loopback.send(handler, 302, {"Location": "/elsewhere?sig=signed-by-them"}, b"")


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        MISSING,
        BROKEN,
        CUT_SHORT,
        refuse_behind_a_redirection,
        (200, {"Content-Type": "text/html; token=signed-by-us"}, b"log in"),
        (302, {"Location": "/elsewhere?sig=signed-by-them"}, b""),
        (302, {"Location": "ftp://me:pass-word@h/a?sig=signed-by-them"}, b""),
        (302, {"Location": "//127.0.0.1:1/a?sig=signed-by-them"}, b""),
        (302, {"Location": "http://me:pass-word@a..b/a?sig=signed-by-them"}, b""),
        lambda handler: (handler.send_response(403, "no signed-by-us"), handler.end_headers()),
        lambda handler: handler.wfile.write(b"HTTP/1.1 2x0 signed-by-us\r\n\r\n"),
        lambda handler: handler.wfile.write(b"signed-by-us"),
        loopback.file(VIDEO, break_after=100),
    ],
)
def test_a_signed_address_is_used_and_no_secret_of_it_is_on_disk_or_in_a_message(server, tmp_path, answer):
    server.otherwise = answer
    template = server.url.replace("http://", "http://me:pass-word@") + "/{id}.mp4" + SIGNED
    place = source(template, tmp_path / "scratch", cache=str(tmp_path / "cache"))
    said, row = [place.name], plan_row("an-id-longer-than-16")
    try:
        with next(place.candidates(row)) as fetched:
            said += [fetched.origin, fetched.name, *fetched.notes]
    except ClipError as error:
        said.append(str(error))
        if "http://" in str(error):  # else the file is no video
            assert "/an-id-longer-than-16.mp4?X-Amz-Signature=***&token=***&v=" in str(error)
    assert server.requested[0] == f"/an-id-longer-than-16.mp4{SIGNED.format(id='an-id-longer-than-16')}"
    said += [path.read_text("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert [secret for secret in SECRETS if any(secret in words for words in said)] == []


def test_a_download_goes_on_under_a_new_signature(server, tmp_path):
    addresses = [f"{server.url}/{{id}}.mp4?Expires={number}&Signature=secret{number}" for number in (1, 1, 2)]
    server.otherwise = loopback.file(VIDEO, break_after=100)
    before = [source(address, tmp_path, cache=str(tmp_path)) for address in addresses]
    with pytest.raises(ClipError), next(before[0].candidates(plan_row())):
        pass
    server.otherwise = loopback.file(VIDEO)
    path = tmp_path / "done"
    assert before[1].name == before[0].name
    before[1].source.download(plan_row(), path, lambda host: None)
    assert path.read_bytes() == VIDEO


@pytest.mark.parametrize("proxy", ["http://me:secret@127.0.0.1:1", "http://me:secret@a..b:1", "me:secret@127.0.0.1:1"])
def test_no_message_names_the_password_of_the_proxy(tmp_path, proxy):
    place = source("http://far.invalid/{id}", tmp_path / "scratch", proxy=proxy)
    with pytest.raises(ClipError) as caught, next(place.candidates(plan_row())):
        pass
    assert "secret" not in str(caught.value)


# Answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, reason, attempts",
    [
        ((404, {}, b""), "not_found", 1),
        ((410, {}, b""), "not_found", 1),
        ((401, {}, b""), "forbidden", 1),
        ((403, {}, b""), "forbidden", 1),
        ((451, {}, b""), "policy", 1),
        ((400, {}, b""), "bad_address", 1),
        ((405, {}, b""), "bad_address", 1),
        ((414, {}, b""), "bad_address", 1),
        ((300, {}, b""), "bad_address", 1),
        ((304, {}, b""), "bad_address", 1),
        ((301, {"Location": "/abc.mp4"}, b""), "bad_address", 1),
        ((302, {"Location": "file:///etc/hostname"}, b""), "bad_address", 1),
        ((302, {"Location": "http://"}, b""), "bad_address", 1),
        ((302, {"Location": "http://[::1/"}, b""), "bad_address", 1),
        ((302, {"Location": "/missing.mp4"}, b""), "not_found", 1),
        ((302, {"Location": "http://a..b/"}, b""), "bad_address", 1),
        ((204, {"Content-Length": None}, b""), "wrong_content", 1),
        ((206, {"Content-Range": "bytes 0-4/10"}, b"video"), "wrong_content", 1),
        ((200, {}, b""), "wrong_content", 1),
        ((200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>"), "wrong_content", 1),
        ((200, {"Content-Type": "application/json"}, b"{}"), "wrong_content", 1),
        ((200, {"Content-Type": "image/jpeg"}, b"\xff\xd8"), "wrong_content", 1),
        ((416, {}, b""), "truncated", 3),
        ((408, {}, b""), "network", 3),
        ((500, {}, b""), "server_error", 3),
        ((503, {}, b""), "server_error", 3),
        ((504, {}, b""), "server_error", 3),
        ((599, {}, b""), "server_error", 3),
        ((429, {}, b""), "rate_limited", 3),
        ((429, {"Retry-After": "0"}, b""), "rate_limited", 3),
        ((503, {"Retry-After": "0"}, b""), "rate_limited", 3),
        ((429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b""), "rate_limited", 3),
        ((429, {"Retry-After": "soon"}, b""), "rate_limited", 3),
        (CUT_SHORT, "truncated", 3),
        ((200, {"Transfer-Encoding": "chunked", "Content-Length": None}, b"5\r\nvideo\r\n5\r\nvi"), "truncated", 3),
        ((200, {"Content-Length": "20000"}, b"x"), "too_large", 1),
    ],
)  # fmt: skip
def test_each_answer_ends_in_its_own_reason_after_the_right_number_of_attempts(server, fetch, answer, reason, attempts):
    server.says("/abc.mp4", answer)
    error = refusal(fetch, largest_bytes=10_000)
    assert (error.reason, error.attempts) == (reason, attempts)
    assert server.url in str(error)
    goes_in_circles = answer[1].get("Location") in ("/abc.mp4", "http://")
    assert server.requested.count("/abc.mp4") == (11 if goes_in_circles else attempts)


@pytest.mark.parametrize("failure", [BROKEN, (503, {}, b""), (429, {}, b""), CUT_SHORT, (408, {}, b"")])
def test_a_passing_failure_is_tried_again(server, fetch, failure):
    server.says("/abc.mp4", failure, OK)
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert (fetched.path.read_bytes(), fetched.attempts) == (b"video", 2)


@pytest.mark.parametrize("final", [MISSING, (403, {}, b"")], ids=["404", "403"])
def test_a_refusal_counts_the_failures_before_it(server, fetch, final):
    server.says("/abc.mp4", BROKEN, final)
    error = refusal(fetch)
    assert len(server.requested) == error.attempts == 2


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_number_of_attempts_is_a_setting(server, fetch, attempts):
    server.says("/abc.mp4", BROKEN)
    error = refusal(fetch, politeness=dataclasses.replace(AT_ONCE, attempts=attempts))
    assert len(server.requested) == error.attempts == attempts


def test_a_server_that_is_not_there_is_tried_three_times(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with loopback.running() as gone:
        pass
    with (
        pytest.raises(Network, match="3 attempts"),
        next(source(gone.url + "/{id}", tmp_path / "scratch").candidates(plan_row())),
    ):
        pass
    assert not list((tmp_path / "scratch").iterdir())


def test_a_host_that_has_no_address_is_a_failure_of_the_net(tmp_path):
    place = source("http://no-such-host.invalid/{id}", tmp_path / "scratch")
    with pytest.raises(Network), next(place.candidates(plan_row())):
        pass


@pytest.fixture
def silent():
    """An answer that says no more after some bytes of its body, until the test is over."""
    over = threading.Event()

    def answer(handler):
        loopback.send(handler, 200, {"Content-Length": "1000"}, b"vid")
        over.wait(20)

    yield answer
    over.set()


def test_a_stalled_connection_is_a_failure_of_the_net(server, fetch, silent):
    server.says("/abc.mp4", silent)
    error = refusal(fetch, silence_seconds=0.2)
    assert (error.reason, error.attempts, len(server.requested)) == ("network", 3, 3)


def test_a_server_that_never_answers_is_a_failure_of_the_net(server, fetch):
    over = threading.Event()
    server.says("/abc.mp4", lambda handler: over.wait(20))
    error = refusal(fetch, silence_seconds=0.2)
    over.set()
    assert (error.reason, error.attempts, len(server.requested)) == ("network", 3, 3)


def test_a_body_that_only_drips_is_given_up(server, fetch):
    over = threading.Event()

    def drip(handler):
        loopback.send(handler, 200, {"Content-Length": "1000"}, b"")
        while not over.wait(0.02):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    server.says("/abc.mp4", drip)
    error = refusal(fetch, silence_seconds=0.3, politeness=dataclasses.replace(AT_ONCE, attempts=1))
    over.set()
    assert error.reason == "network" and " bytes in " in str(error)


def test_a_body_larger_than_the_limit_is_dropped_with_and_without_a_length(server, fetch):
    for headers in ({}, {"Content-Length": None}):
        server.says("/abc.mp4", (200, headers, bytes(30_000)))
        error = refusal(fetch, largest_bytes=20_000)
        assert (error.reason, error.attempts) == ("too_large", 1)
        assert "--largest allows 20000" in str(error)
        server.says("/abc.mp4", (200, headers, bytes(20_000)))
        with fetch("/{id}.mp4", plan_row(), largest_bytes=20_000) as fetched:
            assert fetched.path.stat().st_size == 20_000


@pytest.mark.parametrize("length", ["many", "-1", "1e3", "5, 5", "²", ""])
def test_a_length_that_is_no_number_is_as_none(server, fetch, length):
    server.says("/abc.mp4", (200, {"Content-Length": length}, b"video"))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == b"video"
        assert fetched.notes == ("the server did not say how long the file is",)


def test_a_body_of_unknown_length_is_taken_and_noted(server, fetch):
    server.says("/abc.mp4", (200, {"Content-Length": None}, b"video"))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == b"video"
        assert fetched.notes == ("the server did not say how long the file is",)


def test_a_chunked_body_says_itself_where_it_ends(server, fetch):
    body = b"5\r\nvideo\r\n0\r\n\r\n"
    server.says("/abc.mp4", (200, {"Transfer-Encoding": "chunked", "Content-Length": None}, body))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert (fetched.path.read_bytes(), fetched.notes) == (b"video", ())


def test_a_body_that_is_compressed_all_the_same_is_unpacked_and_its_length_unknown(server, fetch):
    server.says("/abc.mp4", (200, {"Content-Encoding": "gzip", "ETag": '"1"'}, gzip.compress(VIDEO)))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == VIDEO
        assert fetched.notes == ("the server did not say how long the file is",)
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("kind", ["video/mp4", "application/octet-stream", "text/plain", "image/gif", "", "nonsense"])
def test_what_may_be_a_video_is_taken(server, fetch, kind):
    server.says("/abc.mp4", (200, {"Content-Type": kind}, b"video"))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == b"video"


def test_a_redirection_is_followed_and_the_row_keeps_the_address_of_its_template(server, fetch):
    server.says("/abc.mp4", (301, {"Location": "/there/x.webm"}, b""))
    server.says("/there/x.webm", OK)
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == b"video"
        assert (fetched.name, fetched.origin) == ("abc.mp4", server.url + "/abc.mp4")


def test_the_servers_name_is_never_a_local_path(server, fetch, tmp_path):
    server.says("/..%2F..%2Fescaped.mp4?abc", OK)
    with fetch("/..%2F..%2Fescaped.mp4?{id}", plan_row()):
        files = [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
        assert [path.parent for path in files] == [tmp_path / "scratch"]
    assert not list(tmp_path.rglob("*escaped*"))


def test_the_download_goes_even_if_preparing_it_fails(server, fetch):
    server.says("/abc.mp4", OK)
    with pytest.raises(ZeroDivisionError), fetch("/{id}.mp4", plan_row()):
        raise ZeroDivisionError


# Going on where it broke off --------------------------------------------------------------------


def ranges(server) -> list[str | None]:
    return [request.headers.get("Range") for request in server.requests]


def test_a_download_that_broke_off_is_continued(server, fetch):
    server.says("/abc.mp4", loopback.file(VIDEO, break_after=4000), loopback.file(VIDEO))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert (fetched.path.read_bytes(), fetched.attempts) == (VIDEO, 2)
    assert ranges(server) == [None, "bytes=4000-"]
    assert server.requests[1].headers["If-Range"] == '"1"'


def test_it_may_break_off_again_and_again(server, fetch):
    pieces = [loopback.file(VIDEO, break_after=3000)] * 3
    server.says("/abc.mp4", *pieces, loopback.file(VIDEO))
    with fetch("/{id}.mp4", plan_row(), politeness=dataclasses.replace(AT_ONCE, attempts=4)) as fetched:
        assert fetched.path.read_bytes() == VIDEO
    assert ranges(server) == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]


def test_the_time_of_the_last_change_does_as_well_as_an_etag(server, fetch):
    modified = "Wed, 21 Oct 2015 07:28:00 GMT"
    first = loopback.file(VIDEO, etag=None, break_after=4000, Last_Modified=modified)
    rest = (206, {"Content-Range": f"bytes 4000-{len(VIDEO) - 1}/{len(VIDEO)}"}, VIDEO[4000:])
    server.says("/abc.mp4", first, rest)
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == VIDEO
    assert server.requests[1].headers["If-Range"] == modified


@pytest.mark.parametrize("etag", [None, 'W/"1"', "1", '"\t"'])
def test_without_a_sure_sign_of_the_same_file_it_begins_anew(server, fetch, etag):
    server.says("/abc.mp4", loopback.file(VIDEO, etag=etag, break_after=4000), loopback.file(VIDEO))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == VIDEO
    assert ranges(server) == [None, None]


def test_a_file_that_changed_meanwhile_is_taken_from_its_beginning(server, fetch):
    other = bytes(reversed(VIDEO))
    server.says("/abc.mp4", loopback.file(VIDEO, break_after=4000), loopback.file(other, etag='"2"'))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == other


@pytest.mark.parametrize(
    "content_range",
    [
        None,
        "bytes 0-10239/10240",
        "bytes 3999-10239/10240",
        "bytes 4000-10238/10240",
        "bytes 4000-10239/*",
        "bytes 4000-10240/10241",
        "nonsense",
    ],
)
def test_another_part_than_the_requested_one_is_not_put_behind_the_first(server, fetch, content_range):
    wrong = (206, {"Content-Range": content_range}, VIDEO[4000:])
    server.says("/abc.mp4", loopback.file(VIDEO, break_after=4000), wrong, loopback.file(VIDEO))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert (fetched.path.read_bytes(), fetched.attempts) == (VIDEO, 3)
    assert ranges(server) == [None, "bytes=4000-", None]


def test_a_server_that_cannot_go_on_there_gives_it_anew(server, fetch):
    server.says("/abc.mp4", loopback.file(VIDEO, break_after=4000), (416, {}, b""), loopback.file(VIDEO))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == VIDEO
    assert ranges(server) == [None, "bytes=4000-", None]


def test_a_rest_that_ends_early_is_continued_too(server, fetch):
    """The headers of the second answer contradict each other, so no library notices that it is too short."""
    short = (206, {"Content-Range": f"bytes 4000-{len(VIDEO) - 1}/{len(VIDEO)}"}, VIDEO[4000:4100])
    server.says("/abc.mp4", loopback.file(VIDEO, break_after=4000), short, loopback.file(VIDEO))
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert (fetched.path.read_bytes(), fetched.attempts) == (VIDEO, 3)
    assert ranges(server) == [None, "bytes=4000-", "bytes=4100-"]


@pytest.mark.parametrize("change", ["etag", "length"])
def test_a_part_of_another_version_is_not_taken_even_if_the_server_sends_it(server, fetch, change):
    """This server ignores If-Range, and its file has another length by now."""
    other = bytes(reversed(VIDEO)) + b"longer"
    part = (206, {"ETag": '"2"', "Content-Range": f"bytes 4000-{len(other) - 1}/{len(other)}"}, other[4000:])
    whole = loopback.file(other, etag='"2"')
    first = loopback.file(VIDEO, break_after=4000)
    server.says("/abc.mp4", first, part if change == "length" else whole, whole)
    with fetch("/{id}.mp4", plan_row()) as fetched:
        assert fetched.path.read_bytes() == other
    assert server.requests[1].headers["If-Range"] == '"1"'


# Cookies, proxies -------------------------------------------------------------------------------


def test_cookies_are_sent_and_their_file_is_not_written_to(server, fetch, tmp_path):
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tabc123\n")
    before = cookies.read_bytes(), os.stat(cookies).st_mtime_ns
    server.says("/abc.mp4", (200, {"Set-Cookie": "session=other"}, b"video"))
    with fetch("/{id}.mp4", plan_row(), cookies=str(cookies)):
        pass
    assert server.requests[0].headers["Cookie"] == "session=abc123"
    assert (cookies.read_bytes(), os.stat(cookies).st_mtime_ns) == before


@pytest.mark.parametrize("content", [None, b"not cookies", b"\xff\xfe"])
def test_a_bad_file_of_cookies_is_a_mistake(tmp_path, content):
    cookies = tmp_path / "cookies.txt"
    if content is not None:
        cookies.write_bytes(content)
    with pytest.raises(BadOption, match="--cookies"):
        source("http://host/{id}", tmp_path, cookies=str(cookies))


def test_requests_go_to_the_proxy_instead_of_the_host(server, fetch, tmp_path):
    server.says("http://far.invalid/abc.mp4", OK)
    place = source("http://far.invalid/{id}.mp4", tmp_path / "scratch", proxy=server.url)
    with next(place.candidates(plan_row())) as fetched:
        assert fetched.path.read_bytes() == b"video"
    assert server.requested == ["http://far.invalid/abc.mp4"]


# To the end --------------------------------------------------------------------------------------


def test_a_row_is_prepared_from_a_server_to_its_ledger_row(server, tmp_path, quick_recipe):
    video = write_video(tmp_path / "served.mp4", numbered_frames(75)).read_bytes()
    server.says("/abc.mp4", (200, {}, video))
    context = RunContext(quick_recipe, "0" * 16, Fetching((server.url + "/{id}.mp4",)), str(tmp_path / "scratch"))
    row, data = prepare_row(plan_row("abc", 1.0, 2.0), context)
    assert (row.status, row.attempts, row.source) == (ledger.WRITTEN, 1, server.url + "/abc.mp4")
    assert (row.source_bytes, row.source_kind, row.frames) == (len(video), "http", 5) and data is not None
    assert not list((tmp_path / "scratch").iterdir())
