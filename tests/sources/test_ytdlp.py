"""Videos through yt-dlp: its real code, against a server on loopback and an extractor that says what sites say."""

import contextlib
import errno
import http.server
import os
import pickle
import re
import resource
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import yt_dlp
from yt_dlp import utils
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking import exceptions as net
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor

from kinetics_prep import errors
from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadOption, ClipError, MissingTool, NoRoom
from kinetics_prep.sources import ytdlp, ytdlp_errors
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.source import Download
from kinetics_prep.sources.ytdlp import YtDlp, choose
from kinetics_prep.sources.ytdlp_errors import NEEDS_JAVASCRIPT, NEEDS_UPDATE, classify
from kinetics_prep.sources.ytdlp_messages import LONGEST_MESSAGE, tidy

VIDEO = bytes(range(256)) * 300
IS_VIDEO = {"Content-Type": "video/mp4"}
IS_PAGE = {"Content-Type": "text/html"}
IS_PLAYLIST = {"Content-Type": "application/vnd.apple.mpegurl"}


def plan_row(media_id="abc") -> PlannedRow:
    return PlannedRow(0, 0, f"{media_id}_5_15", media_id, "waving", 0, "train", 5.0, 15.0, "rows.csv", 2)


def page(body: str, title: str = "a page") -> tuple:
    return 200, IS_PAGE, f"<!doctype html><html><head><title>{title}</title></head><body>{body}</body></html>".encode()


class Server:
    """A server on loopback, and a proxy too, with prepared answers; it keeps the requests."""

    def __init__(self):
        self.answers: dict[str, tuple] = {}
        self.requests: list[tuple[str, dict]] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                owner.requests.append((self.path, dict(self.headers)))
                status, headers, body = owner.answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    if value is not None:
                        self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # the client may hang up
                    self.wfile.write(body)

            def do_CONNECT(self):
                owner.requests.append((self.path, dict(self.headers)))
                self.send_error(403)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture
def scratch(tmp_path):
    return tmp_path / "scratch"


@pytest.fixture
def fetch(server, scratch, tmp_path, capfd):
    """Downloads a row; checks that nothing stays in scratch, nothing is printed, and a failure leaves no file."""

    def fetch(template="/{id}.mp4", media_id="abc", source=None, **settings) -> tuple[Download, bytes]:
        text = template if template.startswith(("yt-dlp:", "youtube")) else f"yt-dlp:{server.url}{template}"
        source = source or YtDlp.open(text, Fetching((text,), **settings), scratch)
        path = tmp_path / "downloaded"
        try:
            download = source.download(plan_row(media_id), path, lambda host: None)
            return download, path.read_bytes()
        except BaseException:
            assert not path.exists()
            raise
        finally:
            path.unlink(missing_ok=True)
            assert not scratch.exists() or not list(scratch.iterdir())
            assert capfd.readouterr() == ("", "")

    return fetch


def refusal(fetch, *args, **kwargs) -> ClipError:
    with pytest.raises(ClipError) as caught:
        fetch(*args, **kwargs)
    return caught.value


# Which address is requested


@pytest.mark.parametrize(
    "text, accepted",
    [
        ("youtube", True),
        ("yt-dlp:https://vimeo.com/{id}", True),
        ("yt-dlp:nonsense", True),  # so that a message can say why
        ("Youtube", False),
        ("https://vimeo.com/{id}", False),
        ("a/folder", False),
    ],
)
def test_the_source_knows_its_own(text, accepted):
    assert YtDlp.accepts(text) is accepted


def opened(text: str, scratch, **settings) -> YtDlp:
    return YtDlp.open(text, Fetching((text,), **settings), scratch)


def test_youtube_is_short_for_its_watch_page(scratch):
    source = opened("youtube", scratch)
    assert source.host == "www.youtube.com"
    assert source.address(plan_row("-3B32lodo2M")) == "https://www.youtube.com/watch?v=-3B32lodo2M"
    assert source.is_remote and not source.gives_pieces


def test_an_odd_id_is_quoted(scratch):
    source = opened("yt-dlp:https://Host.example:81/v/{id}?a={id}", scratch)
    assert source.host == "host.example"
    assert source.address(plan_row("a/../b&c %")) == (
        "https://Host.example:81/v/a%2F..%2Fb%26c%20%25?a=a%2F..%2Fb%26c%20%25"
    )


@pytest.mark.parametrize(
    "template, why",
    [
        ("https://host/", "expected {id} in it"),
        ("https://host/{id}/{start}", "no other field"),
        ("https://host/{id!r}", "expected {id} in it"),
        ("https://host/{id}}", "no other field"),
        ("https://{id}/", "one host"),
        ("https://{id}@host/", "one host"),
        ("ftp://host/{id}", "expected an http"),
        ("file:///tmp/{id}", "expected an http"),
        ("host/{id}", "expected an http"),
        ("https://[/{id}", "Invalid IPv6"),
        ("https:///{id}", "one host"),
    ],
)
def test_a_template_is_an_address_of_one_host_with_an_id(scratch, template, why):
    with pytest.raises(BadOption, match=re.escape(why)):
        opened(f"yt-dlp:{template}", scratch)


def test_a_password_in_the_template_is_not_written_down(scratch, fetch):
    source = opened("yt-dlp:http://me:sec@ret@127.0.0.1:1/{id}", scratch)
    assert source.origin(plan_row()) == "http://***@127.0.0.1:1/abc"
    assert "ret" not in str(refusal(fetch, source=source)).replace("retries", "")
    with pytest.raises(BadOption) as caught:
        opened("yt-dlp:http://me:sec@ret@host/", scratch)
    assert "ret@" not in str(caught.value) and "http://***@host/" in str(caught.value)


def test_a_secret_in_a_parameter_of_the_template_is_not_written_down(scratch, fetch):
    source = opened("yt-dlp:http://127.0.0.1:1/watch?v={id}&token=secret-of-ours&list=short", scratch)
    long_id = "an-id-that-is-longer-than-those-of-YouTube"
    assert source.address(plan_row(long_id)).endswith(f"/watch?v={long_id}&token=secret-of-ours&list=short")
    shown = f"http://127.0.0.1:1/watch?v={long_id}&token=***&list=short"
    assert source.origin(plan_row(long_id)) == shown
    error = str(refusal(fetch, source=source, media_id=long_id))
    assert error.startswith(f"{shown}: ") and "secret" not in error
    with pytest.raises(BadOption, match=re.escape("http://host/?token=***: ")) as caught:
        opened("yt-dlp:http://host/?token=secret-of-ours", scratch)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "media_id", ["short", "twelve_chars", "spaces here", "3B32lodo2M?", "äbcdefghijk", "..........\n"]
)
def test_what_is_no_id_of_youtube_is_refused_without_asking(server, fetch, media_id):
    error = refusal(fetch, "youtube", media_id, proxy=server.url)
    assert (error.reason, server.paths) == ("bad_address", [])


def test_without_yt_dlp_the_message_says_what_to_install(scratch, monkeypatch):
    monkeypatch.setattr(ytdlp.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingTool, match="pip install"):
        opened("youtube", scratch)


def test_yt_dlp_is_not_imported_before_it_is_needed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from kinetics_prep.sources.ytdlp import YtDlp;"
        "from kinetics_prep.sources.fetching import Fetching;"
        "YtDlp.open('youtube', Fetching(('youtube',)), Path(sys.argv[1])); assert 'yt_dlp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


# What arrives


def test_a_link_to_a_file_arrives_as_it_is(server, fetch):
    server.answers["/abc.mp4"] = 200, IS_VIDEO, VIDEO
    assert fetch() == (Download("abc.mp4"), VIDEO)


@pytest.mark.parametrize(
    "body",
    [
        '<video src="/real.webm"></video>',
        '<video><source src="/real.webm" type="video/webm"></video>',
        '<meta property="og:video" content="{url}/real.webm">',
    ],
)
def test_a_page_with_one_video_gives_that_video(server, fetch, body):
    server.answers["/watch/abc"] = page(body.format(url=server.url))
    server.answers["/real.webm"] = 200, {"Content-Type": "video/webm"}, VIDEO
    assert fetch("/watch/{id}") == (Download("abc.webm"), VIDEO)


def test_a_redirect_is_followed(server, fetch):
    server.answers["/abc.mp4"] = 302, {"Location": "/elsewhere.mp4"}, b""
    server.answers["/elsewhere.mp4"] = 200, IS_VIDEO, VIDEO
    assert fetch()[1] == VIDEO


def test_fragments_are_put_together(server, fetch):
    server.answers["/abc.m3u8"] = playlist("/1.ts", "/2.ts")
    server.answers |= {"/1.ts": (200, {}, VIDEO), "/2.ts": (200, {}, b"the end")}
    assert fetch("/{id}.m3u8") == (Download("abc.mp4"), VIDEO + b"the end")


def playlist(*fragments: str, end: str = "#EXT-X-ENDLIST\n") -> tuple:
    lines = "".join(f"#EXTINF:1,\n{fragment}\n" for fragment in fragments)
    return 200, IS_PLAYLIST, f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{lines}{end}".encode()


@pytest.mark.parametrize(
    "media_id", ["../../evil", "a b", "$HOME", "%(title)s", "été", "-abc", "a" * 300, ".", "~", "{id}"]
)
def test_neither_id_nor_title_becomes_a_path(server, fetch, media_id):
    address = f"/v-{urllib.parse.quote(media_id, safe='')}"
    server.answers[address] = page('<video src="/x%2Fevil.mp4"></video>', "../../../evil %(id)s $HOME \x00 {}")
    server.answers["/x%2Fevil.mp4"] = 200, IS_VIDEO, VIDEO
    download, content = fetch("/v-{id}", media_id)
    assert content == VIDEO and re.fullmatch(r"[A-Za-z0-9_-]{1,100}\.mp4", download.name)


@pytest.mark.parametrize("name", ["100% scratch", "%(id)s", "sp ace", "~"])
def test_a_scratch_folder_may_bear_any_name(server, tmp_path, name):
    server.answers["/abc.mp4"] = 200, IS_VIDEO, VIDEO
    opened(f"yt-dlp:{server.url}/{{id}}.mp4", tmp_path / name).download(
        plan_row(), tmp_path / "downloaded", lambda host: None
    )
    assert (tmp_path / "downloaded").read_bytes() == VIDEO


def test_a_scratch_folder_that_yt_dlp_would_misread_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMEWHERE", "/elsewhere")
    with pytest.raises(BadOption, match="variable"):
        opened("youtube", tmp_path / "$SOMEWHERE")


def test_many_threads_share_a_source(server, scratch, tmp_path):
    source = opened(f"yt-dlp:{server.url}/{{id}}.mp4", scratch)
    for number in range(8):
        server.answers[f"/{number}.mp4"] = 200, IS_VIDEO, VIDEO + bytes([number])

    def download(number: int) -> bytes:
        source.download(plan_row(str(number)), tmp_path / str(number), lambda host: None)
        return (tmp_path / str(number)).read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(download, range(8))) == [VIDEO + bytes([number]) for number in range(8)]
    assert not list(scratch.iterdir())


# What does not arrive


@pytest.mark.parametrize(
    "status, reason",
    [
        (400, "bad_address"),
        (401, "forbidden"),
        (402, "members_only"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "bad_address"),
        (410, "not_found"),
        (429, "rate_limited"),
        (451, "geo"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_a_status_is_a_reason(server, fetch, status, reason):
    server.answers["/abc.mp4"] = status, {}, b""
    error = refusal(fetch)
    assert (error.reason, server.paths) == (reason, ["/abc.mp4"])
    assert f"{server.url}/abc.mp4: " in str(error) and str(status) in str(error)


def test_a_status_in_the_middle_of_a_download_is_a_reason(server, fetch):
    server.answers["/abc"] = page('<video src="/real.mp4"></video>')
    for status, reason in ((403, "forbidden"), (404, "not_found"), (429, "rate_limited"), (500, "server_error")):
        server.answers["/real.mp4"] = status, {}, b""
        assert refusal(fetch, "/{id}").reason == reason


def test_what_a_server_names_its_status_counts_for_nothing(server, fetch, monkeypatch):
    monkeypatch.setitem(http.server.BaseHTTPRequestHandler.responses, 404, ("Private video, copyright, not a bot", ""))
    server.answers["/abc.mp4"] = 404, {}, b""
    assert refusal(fetch).reason == "not_found"


@pytest.mark.parametrize(
    "answer, reason, says",
    [
        ((200, IS_VIDEO | {"Content-Length": "100000"}, VIDEO), "truncated", "76800 bytes read, 23200 more expected"),
        ((200, IS_VIDEO, b""), "truncated", "Did not get any data"),
        ((302, {"Location": "/abc.mp4"}, b""), "bad_address", "redirect loop"),
        ((302, {"Location": "ftp://127.0.0.1/x"}, b""), "bad_address", ""),
        ((302, {"Location": "file:///etc/passwd"}, b""), "bad_address", ""),
        (page("nothing to see"), "wrong_content", "Unsupported URL"),
        (page('<video src="/1.mp4"></video><video src="/2.mp4"></video>'), "wrong_content", "is a playlist"),
        (playlist("/1.ts", "/missing.ts"), "not_found", "HTTP Error 404"),
        (playlist("/1.ts", "file:///etc/passwd"), "bad_address", "file:// URLs are disabled"),
        (playlist("/1.ts", end=""), "not_yet", "going on"),
    ],
)
def test_an_answer_that_is_no_whole_video_is_refused(server, fetch, answer, reason, says):
    server.answers |= {"/abc.mp4": answer, "/1.ts": (200, {}, VIDEO)}
    error = refusal(fetch)
    assert error.reason == reason and says in str(error)


def test_one_download_is_one_attempt(server, fetch):
    server.answers["/abc.mp4"] = 200, IS_VIDEO | {"Content-Length": "100000"}, VIDEO
    refusal(fetch)
    assert server.paths == ["/abc.mp4"] * 2  # once to see what it is


@pytest.mark.parametrize("line", ["#EXT-X-KEY:METHOD=SAMPLE-AES,URI=x", "#EXT-X-SOMETHING"])
def test_no_program_is_started_whatever_a_playlist_says(server, fetch, tmp_path, monkeypatch, line):
    program = tmp_path / "bin/ffmpeg"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho ffmpeg version 8.0\necho "$*" >> {tmp_path}/started\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(FFmpegPostProcessor, "_version_cache", {None: None})  # not that of other tests
    status, headers, body = playlist("/1.ts")
    server.answers |= {
        "/1.ts": (200, {}, VIDEO),
        "/abc.mp4": (status, headers, body.replace(b"#EXTM3U", b"#EXTM3U\n" + line.encode())),
    }
    with contextlib.suppress(errors.NoFormat, errors.Drm):
        assert fetch()[1] == VIDEO
    started = tmp_path / "started"
    assert not started.exists() or "://" not in started.read_text()  # yt-dlp may request its version


def test_an_unusual_suffix_is_refused(server, fetch):
    server.answers["/abc.exe"] = 200, IS_VIDEO, VIDEO
    assert refusal(fetch, "/{id}.exe").reason == "wrong_content"


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_over_the_limit_is_not_downloaded(server, fetch, announced):
    server.answers["/abc.mp4"] = 200, IS_VIDEO | ({} if announced else {"Content-Length": None}), VIDEO * 10
    error = refusal(fetch, largest_bytes=len(VIDEO) * 2)
    assert error.reason == "too_large" and "--largest" in str(error)
    assert fetch(largest_bytes=len(VIDEO) * 10)[1] == VIDEO * 10


def test_fragments_count_together_towards_the_limit(server, fetch):
    server.answers["/abc.m3u8"] = playlist("/1.ts", "/1.ts", "/1.ts")
    server.answers["/1.ts"] = 200, {}, VIDEO
    assert fetch("/{id}.m3u8", largest_bytes=len(VIDEO) * 3)[1] == VIDEO * 3
    assert refusal(fetch, "/{id}.m3u8", largest_bytes=len(VIDEO) * 2).reason == "too_large"


@pytest.mark.parametrize("template", ["yt-dlp:http://127.0.0.1:1/{id}", "yt-dlp:https://127.0.0.1:1/{id}"])
def test_a_server_that_is_not_there_is_the_network(fetch, template):
    assert refusal(fetch, template).reason == "network"


def test_no_tls_where_tls_is_expected_is_the_network(server, fetch):
    assert refusal(fetch, f"yt-dlp:{server.url.replace('http:', 'https:')}/{{id}}").reason == "network"


def test_a_full_disk_stops_the_run(server, fetch):
    server.answers["/abc.mp4"] = 200, IS_VIDEO, VIDEO
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(NoRoom, match="make room"):
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Cookies, proxy


def cookies(tmp_path, *lines: str):
    path = tmp_path / "cookies.txt"
    path.write_text("\n".join(("# Netscape HTTP Cookie File", *lines, "")), "utf-8")
    return path


COOKIE = "127.0.0.1\tFALSE\t/\tFALSE\t{expires}\t{name}\tsecret"


def test_cookies_reach_the_server_and_their_file_stays_as_it_is(server, fetch, tmp_path):
    later = int(time.time()) + 1000
    lines = (COOKIE.format(expires=later, name="a"), "#HttpOnly_" + COOKIE.format(expires=0, name="b"), "", "# remark")
    path = cookies(tmp_path, *lines)
    path.chmod(0o400)
    before = path.read_bytes(), path.stat().st_mtime_ns
    server.answers["/abc.mp4"] = 200, IS_VIDEO | {"Set-Cookie": "c=new; Max-Age=100"}, VIDEO
    for _ in range(2):  # each download begins with the user's own
        server.requests.clear()
        fetch(cookies=str(path))
        assert sorted(server.requests[0][1]["Cookie"].split("; ")) == ["a=secret", "b=secret"]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cookies.txt", "scratch"]


def test_without_cookies_none_are_sent(server, fetch):
    server.answers["/abc.mp4"] = 200, IS_VIDEO, VIDEO
    fetch()
    assert all("Cookie" not in headers for _, headers in server.requests)


@pytest.mark.parametrize(
    "content, why",
    [
        (b"", "Netscape"),
        (b'[{"domain": "x"}]', "Netscape"),
        (b"\xff\xfe", "cannot be read"),
        (b"# Netscape HTTP Cookie File\nhost FALSE / FALSE 0 secretname secret", "line 2 is no cookie"),
        (b"# Netscape HTTP Cookie File\n\nhost\tFALSE\t/\tFALSE\tnever\tsecretname\tsecret", "line 3 is no cookie"),
    ],
)
def test_a_file_that_holds_no_cookies_is_a_mistake(scratch, tmp_path, content, why):
    path = tmp_path / "cookies.txt"
    path.write_bytes(content)
    with pytest.raises(BadOption, match=why) as caught:
        opened("youtube", scratch, cookies=str(path))
    assert "secret" not in str(caught.value)


def test_a_file_of_cookies_that_is_not_there_is_a_mistake(scratch, tmp_path):
    with pytest.raises(BadOption, match="cannot be read"):
        opened("youtube", scratch, cookies=str(tmp_path / "none"))


def test_requests_go_to_the_proxy(server, fetch):
    server.answers["http://site.invalid/abc.mp4"] = 200, IS_VIDEO, VIDEO
    assert fetch("yt-dlp:http://site.invalid/{id}.mp4", proxy=server.url)[1] == VIDEO
    assert set(server.paths) == {"http://site.invalid/abc.mp4"}


def test_requests_to_youtube_go_to_the_proxy_and_no_message_names_its_password(server, fetch):
    proxy = server.url.replace("://", "://user:pass-word@")
    error = refusal(fetch, "youtube", "-3B32lodo2M", proxy=proxy)
    assert error.reason == "network" and "pass-word" not in str(error)
    assert server.paths and {path.split(":")[0] for path in server.paths} <= {"www.youtube.com"}


def test_no_other_site_than_youtube_gets_requests_for_youtube(scratch):
    with opened("youtube", scratch).downloader(plan_row(), scratch, ytdlp.WarningLog()) as downloader:
        assert list(downloader._ies) == ["Youtube"]
        # Else it answers in the language of the country, or of the account.
        assert downloader.get_info_extractor("Youtube")._preferred_lang == "en"


# What an extractor says


class Site(InfoExtractor):
    """An extractor that gives what a test has prepared, or raises it."""

    _VALID_URL = r"https?://site\.test/(?P<id>.+)"
    answer = None

    def _real_extract(self, url):
        answer = self.answer(self) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        return {"id": self._match_id(url), "title": "a title"} | answer


class AtSite(YtDlp):
    """The source, where yt-dlp knows no site but that of the test."""

    def answering(self, answer, *warnings: str) -> "AtSite":
        self.extractors, self.answer, self.warnings = [], answer, warnings
        return self

    def downloader(self, row, folder, log):
        made = super().downloader(row, folder, log)
        site = Site()
        site.answer = self.answer
        made.add_info_extractor(site)
        for warning in self.warnings:
            made.report_warning(warning)
        return made


@pytest.fixture
def at_site(fetch, scratch):
    def at_site(answer, *warnings: str, youtube: bool = False, **settings):
        text = "yt-dlp:https://site.test/{id}"
        source = AtSite.open(text, Fetching((text,), **settings), scratch).answering(answer, *warnings)
        source.is_youtube = youtube
        return fetch(source=source, media_id="abcdefghijk")

    return at_site


def raised(at_site, answer, *warnings: str) -> ClipError:
    with pytest.raises(ClipError) as caught:
        at_site(answer, *warnings)
    # It crosses processes; yt-dlp's exceptions could not, and they hold on to its objects.
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))
    assert len(str(again)) < LONGEST_MESSAGE + 100
    return caught.value


@pytest.mark.parametrize(
    "error, reason",
    [
        (utils.ExtractorError("Private video", expected=True), "private"),
        (utils.ExtractorError("Something odd", expected=False), "internal"),
        (utils.RegexNotFoundError("Unable to extract player"), "internal"),
        (utils.GeoRestrictedError("Only where it is nice", countries=["AT", "DE"]), "geo"),
        (utils.UserNotLive(), "not_yet"),
        (utils.UnsupportedError("https://site.test/private"), "wrong_content"),
        (utils.UnavailableVideoError(OSError(errno.EACCES, "Permission denied")), "internal"),
        (utils.ContentTooShortError(5, 10), "truncated"),
        (utils.MaxDownloadsReached(), "internal"),
        (utils.SameFileError("x"), "internal"),
        (utils.PostProcessingError("ffprobe is not there"), "internal"),
        (utils.DownloadError("ERROR: [download] Got error: 5 bytes read, 7 more expected"), "truncated"),
        (utils.DownloadError("ERROR: \r[download] Got error: the pipe burst"), "network"),
        (net.TransportError("Connection reset by peer"), "network"),
        (net.IncompleteRead(5, 7), "truncated"),
        (net.SSLError("wrong version number"), "network"),
        (net.CertificateVerifyError("self-signed certificate"), "network"),
        (net.ProxyError("Tunnel connection failed: 407 Proxy Authentication Required"), "network"),
        (net.RequestError("no handler"), "bad_address"),
        (net.UnsupportedRequest('unsupported url scheme: "gopher"'), "bad_address"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "internal"),
        (KeyError("streamingData"), "internal"),
        (TypeError("'NoneType' object is not subscriptable"), "internal"),
        (RecursionError("too deep"), "internal"),
        (TimeoutError("The read operation timed out"), "network"),
        (ConnectionResetError(104, "Connection reset by peer"), "network"),
    ],
)
def test_every_class_of_error_becomes_a_refusal(at_site, error, reason):
    assert raised(at_site, error).reason == reason


def test_an_error_that_nobody_named_keeps_its_words(at_site):
    assert "KeyError: An extractor error has occurred" in str(raised(at_site, KeyError("streamingData")))
    assert "TypeError: 'NoneType' object" in str(raised(at_site, TypeError("'NoneType' object is not subscriptable")))


def test_a_refusal_says_where_a_video_is_shown(at_site):
    assert "AT, DE" in str(raised(at_site, utils.GeoRestrictedError("Not here", countries=["AT", "DE"])))


def test_a_country_is_not_forged(at_site):
    forged = []

    def answer(site):
        forged.append(site._x_forwarded_for_ip)
        site.raise_geo_restricted(countries=["DE"])

    assert raised(at_site, answer).reason == "geo"
    assert forged == [None]


def test_nothing_is_kept_for_another_time(server, at_site, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def answer(site):
        site.cache.store("section", "key", "value")
        return direct(server)

    assert at_site(answer)[1] == VIDEO
    assert not (tmp_path / "cache").exists()


def test_methods_of_extractors_are_understood(at_site):
    for method, reason in (("raise_login_required", "login_required"), ("raise_geo_restricted", "geo")):
        assert raised(at_site, lambda site, method=method: getattr(site, method)()).reason == reason
    assert raised(at_site, lambda site: site.report_drm("abc")).reason == "drm"
    error = raised(at_site, lambda site: site.raise_login_required())
    assert "registered users" in str(error) and "--netrc" not in str(error)  # which is no flag of ours


def test_an_attempt_that_follows_another_is_judged_by_itself(server, fetch):
    """yt-dlp takes any exception that is being handled, ours too, for the cause of its own."""
    server.answers["/abc.mp4"] = 200, IS_VIDEO | {"Content-Length": "100000"}, VIDEO
    try:
        raise errors.Private("the attempt before")
    except ClipError:
        assert refusal(fetch).reason == "truncated"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_stops_the_run(at_site, error):
    with pytest.raises(type(error)):
        at_site(error)


def test_an_interrupt_in_the_middle_of_a_download_stops_the_run(server, fetch, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ytdlp, "_refuse_larger", interrupt)
    server.answers |= {"/abc.mp4": playlist("/1.ts"), "/1.ts": (200, {}, VIDEO), "/def.mp4": (200, IS_VIDEO, VIDEO)}
    for media_id in ("abc", "def"):
        with pytest.raises(KeyboardInterrupt):
            fetch(media_id=media_id)


def direct(server, **more) -> dict:
    server.answers["/real.mp4"] = 200, IS_VIDEO, VIDEO
    return {"url": f"{server.url}/real.mp4", "ext": "mp4"} | more


@pytest.mark.parametrize(
    "more, reason",
    [
        ({"live_status": "is_live"}, "not_yet"),
        ({"live_status": "is_upcoming"}, "not_yet"),
        ({"live_status": "post_live"}, "not_yet"),
        ({"is_live": True}, "not_yet"),
        ({"_type": "playlist", "entries": []}, "wrong_content"),
        ({"_type": "multi_video", "entries": []}, "wrong_content"),
        ({"ext": "mp3", "vcodec": "none"}, "no_format"),
        ({"formats": []}, "no_format"),
        ({"formats": None, "url": None}, "no_format"),
        ({"has_drm": True}, "drm"),
        ({"id": None}, "internal"),
        ({"protocol": "rtmp"}, "no_format"),  # for which yt-dlp would start a program
        ({"section_start": 1, "section_end": 2}, "no_format"),  # for which it would start ffmpeg
    ],
)
def test_what_is_no_single_finished_video_is_refused(server, at_site, more, reason):
    assert raised(at_site, direct(server, **more)).reason == reason
    assert server.paths == []


@pytest.mark.parametrize("more", [{}, {"live_status": "was_live"}, {"live_status": "not_live"}, {"is_live": False}])
def test_a_finished_video_is_taken(server, at_site, more):
    assert at_site(direct(server, **more)) == (Download("abcdefghijk.mp4"), VIDEO)


def test_another_video_than_the_requested_one_is_refused(server, at_site):
    assert at_site(direct(server), youtube=True)[1] == VIDEO
    with pytest.raises(errors.WrongContent, match="offers 'trailer' instead"):
        at_site(direct(server, id="trailer"), youtube=True)
    assert at_site(direct(server, id="as the site calls it"))[1] == VIDEO  # sites have names of their own


def test_a_format_of_sufficient_size_is_downloaded(server, at_site):
    server.answers["/small.mp4"] = 200, IS_VIDEO, b"small"
    server.answers["/fits.mp4"] = 200, IS_VIDEO, b"fits"
    server.answers |= {"/list": playlist("/fits.mp4")}
    other = {"url": f"{server.url}/list", "ext": "mp4", "protocol": "m3u8"}  # which yt-dlp would leave to ffmpeg
    assert at_site({"formats": [other]})[1] == b"fits"
    formats = [
        {"url": f"{server.url}/{name}.mp4", "format_id": name, "ext": "mp4", "height": height, "width": height * 2}
        for name, height in (("small", 144), ("fits", 360), ("large", 1080))
    ]
    assert at_site({"formats": formats})[1] == b"fits"
    assert at_site({"formats": formats}, short_side=100)[1] == b"small"


@pytest.mark.parametrize(
    "error, warning, reason, hint",
    [
        (None, "[youtube] abc: n challenge solving failed: Some formats may be missing", "no_format", NEEDS_JAVASCRIPT),
        (None, "[youtube] No supported JavaScript runtime could be found", "no_format", NEEDS_JAVASCRIPT),
        (None, "[youtube] abc: Signature solving failed: Some formats", "no_format", NEEDS_JAVASCRIPT),
        (None, "[youtube] Sign in to confirm you’re not a bot", "bot_check", ""),
        (None, "[youtube] Unable to download webpage: HTTP Error 429: Too Many Requests", "rate_limited", ""),
        (None, "[youtube] abc: This video is age-restricted; some formats may be missing", "age_restricted", ""),
        (None, "This video is DRM protected and only images are available for download", "drm", ""),
        (None, "[youtube] Skipping unsupported client", "no_format", "Requested format is not available"),
        ("Failed to extract any player response", "HTTP Error 429: Too Many Requests", "rate_limited", ""),
        ("Video unavailable", "Falling back on generic information extractor", "unavailable", ""),
        ("Private video", "HTTP Error 429: Too Many Requests", "private", ""),
    ],
)
def test_a_warning_may_explain_an_error_that_says_little(server, at_site, error, warning, reason, hint):
    answer = utils.ExtractorError(error, expected=True) if error else direct(server, vcodec="none")
    error = raised(at_site, answer, warning)
    assert error.reason == reason and hint in str(error)


# Formats


def format_(name: str, width=None, height=None, **more) -> dict:
    return {"format_id": name, "width": width, "height": height, "protocol": "https", "ext": "mp4"} | more


def chosen(*formats: dict, short_side: int = 256) -> str | None:
    best = list(choose(formats, short_side))
    assert len(best) <= 1
    return best[0]["format_id"] if best else None


SOUND, SILENT = {"vcodec": "h264", "acodec": "aac"}, {"vcodec": "h264", "acodec": "none"}


@pytest.mark.parametrize(
    "formats, expected",
    [
        ([format_("s", 426, 240), format_("m", 480, 270), format_("l", 640, 360)], "m"),
        ([format_("s", 426, 240), format_("exact", 455, 256), format_("l", 640, 360)], "exact"),
        ([format_("wide", 640, 250), format_("tall", 360, 640), format_("l", 1280, 720)], "tall"),
        ([format_("s", 256, 144), format_("m", 426, 240)], "m"),
        ([format_("unknown"), format_("s", 256, 144)], "s"),
        ([format_("unknown")], "unknown"),
        ([format_("worse"), format_("better")], "better"),  # yt-dlp has put the best one last
        ([format_("lines", None, 360), format_("l", 1280, 720)], "lines"),
        ([format_("sound", 640, 360, **SOUND), format_("silent", 640, 360, **SILENT)], "silent"),
        ([format_("sound", 640, 360, **SOUND), format_("l", 1280, 720, **SILENT)], "sound"),
        ([format_("fat", 640, 360, tbr=900), format_("thin", 640, 360, tbr=300), format_("x", 640, 360)], "thin"),
        ([format_("fat", 640, 360, filesize=9), format_("thin", 640, 360, filesize_approx=3)], "thin"),
        ([format_("b", 640, 360), format_("a", 640, 360)], "a"),
        ([format_("hdr", 640, 360, tbr=1, dynamic_range="HDR10"), format_("sdr", 640, 360, tbr=2)], "sdr"),
        ([format_("hdr", 640, 360, **SILENT, dynamic_range="HLG"), format_("sdr", 640, 360, **SOUND)], "sdr"),
        ([format_("half", 640, 360, preference=-10), format_("l", 1280, 720, preference=-1)], "l"),
        ([format_("243-sr", 640, 360, format_note="AI-upscaled"), format_("true", 256, 144)], "true"),
        ([format_("story", 640, 360, ext="mhtml", vcodec="none")], None),
        ([format_("story", 640, 360, ext="mhtml")], None),
        ([format_("sound", None, None, vcodec="none"), format_("song", ext="m4a")], None),
        ([format_("locked", 640, 360, has_drm=True), format_("perhaps", 640, 360, has_drm="maybe")], None),
        ([format_("foreign", 640, 360, protocol="rtmp"), format_("mms", 640, 360, protocol="mms")], None),
        ([format_("ok", 640, 360, protocol="m3u8_native")], "ok"),
        ([format_("zero", 0, 0), format_("s", 256, 144)], "s"),
        ([], None),
    ],
)
def test_the_smallest_sufficient_format_is_chosen(formats, expected):
    assert chosen(*formats) == expected
    if expected not in ("better",):  # whatever the order
        assert chosen(*reversed(formats)) == expected


# Words


YOUTUBE_SAYS = [
    ("Private video. Sign in if you've been granted access to this video", "private"),
    ("Private video. Sign in if you’ve been granted access to this video. Use --cookies", "private"),
    ("This video is private", "private"),
    ("Video unavailable. This video is private.", "private"),
    ("Video unavailable. This video has been removed by the uploader", "removed"),
    ("This video has been removed by the user", "removed"),
    ("The YouTube account associated with this video has been terminated.", "terminated"),
    ("The account associated with it has been terminated due to notifications of copyright", "terminated"),
    ("This video is no longer available because the uploader has closed their YouTube account.", "terminated"),
    ("This video has been removed for violating YouTube's Terms of Service", "policy"),
    ("This video has been removed for violating YouTube’s policy on harassment and bullying", "policy"),
    ("This video has been removed for violating YouTube's Community Guidelines", "policy"),
    ("This video has been removed for violating YouTube's policy on nudity or sexual content.", "policy"),
    ("This video has been removed for violating YouTube's policy on spam, deceptive practices, and scams", "policy"),
    ("Video unavailable. This video is no longer available due to a copyright claim by WMG", "copyright"),
    ("This video contains content from SME, who has blocked it on copyright grounds", "copyright"),
    ("This video contains content from SME, who has blocked it in your country on copyright grounds", "geo"),
    ("The uploader has not made this video available in your country", "geo"),
    ("Video unavailable. The uploader has not made this video available in your country", "geo"),
    ("This content is not available on this country domain due to a legal complaint", "geo"),
    ("This video is not available from your location due to geo restriction", "geo"),
    ("Sign in to confirm your age. This video may be inappropriate for some users. Use --cookies", "age_restricted"),
    ("This video is age-restricted", "age_restricted"),
    ("The following content has been identified by the YouTube community as inappropriate", "age_restricted"),
    ("Sign in to confirm you’re not a bot. Use --cookies for the authentication", "bot_check"),
    ("Sign in to confirm you're not a bot. This helps protect our community. Learn more", "bot_check"),
    ("Video unavailable. YouTube is requiring a captcha challenge before playback", "bot_check"),
    ("All player responses are invalid. Your IP is likely being blocked by Youtube", "bot_check"),
    ("Got HTTP Error 403 caused by Cloudflare anti-bot challenge; try again with  --extractor-args", "bot_check"),
    ("Video unavailable. This content isn't available, try again later. The current session has been", "rate_limited"),
    ("This content isn’t available, try again later", "rate_limited"),
    ("Your account has been rate-limited by YouTube for up to an hour", "rate_limited"),
    ("Unable to download API page: HTTP Error 429: Too Many Requests (caused by <HTTPError 429>)", "rate_limited"),
    ("Join this channel to get access to members-only content like this video", "members_only"),
    ("This video is available to this channel's members on level: Level 2 (or any higher level).", "members_only"),
    ("This video is available to this channel’s members on level: Patron", "members_only"),
    ("This video requires payment to watch.", "members_only"),
    ("Video unavailable. This video is only available to Music Premium members", "members_only"),
    ("Please sign in. Use --cookies-from-browser or --cookies for the authentication.", "login_required"),
    ("Sign in to view this video", "login_required"),
    ("This live event will begin in 5 days.", "not_yet"),
    ("This live event will begin in a few moments.", "not_yet"),
    ("Premieres in 7 hours", "not_yet"),
    ("Premiere will begin shortly", "not_yet"),
    ("We're processing this video. Check back later.", "not_yet"),
    ("Offline.", "not_yet"),
    ("The channel is not currently live", "not_yet"),
    ("Video unavailable", "unavailable"),
    ("Video unavailable. This video is not available", "unavailable"),
    ("Video unavailable. This content isn’t available.", "unavailable"),
    ("This video is not available.", "unavailable"),
    ("This video is unavailable", "unavailable"),
    ("This live stream recording is not available.", "unavailable"),
    ("Video unavailable. Playback on other websites has been disabled by the video owner", "unavailable"),
    ("This video does not exist.", "not_found"),
    ("Incomplete YouTube ID abc. URL https://www.youtube.com/watch?v=abc looks truncated.", "not_found"),
    ("This video is DRM protected", "drm"),
    ("Requested format is not available. Use --list-formats for a list of available formats", "no_format"),
    ("No video formats found!; please report this issue on  https://github.com/yt-dlp/yt-dlp/issues", "no_format"),
    ("The page needs to be reloaded.", "no_format"),
    ("The following content is not available on this app. Watch on the latest version of YouTube.", "no_format"),
    ("Sorry, something went wrong.", "server_error"),
    ("We're experiencing technical difficulties. Try again later", "server_error"),
    ("Failed to extract any player response; please report this issue on  https://github.com/yt-dlp", "internal"),
]  # fmt: skip

OTHERS_SAY = [
    ("This video is only available for registered users. Use --username and --password", "login_required"),
    ("This video is protected by a password, use the --video-password option", "login_required"),
    ("Because of its privacy settings, this video cannot be played here.", "private"),
    ("This video is only available for premium members", "members_only"),
    ("Video not found", "not_found"),
    ("There is no video in this tweet", "wrong_content"),
    ("Unsupported URL: https://site.test/private-video", "wrong_content"),
    ("No suitable extractor found for URL https://site.test/x", "bad_address"),
    ("'private' is not a valid URL", "bad_address"),
    ("HTTP Error 302: Found (redirect loop detected)", "bad_address"),
    ("Unable to download webpage: HTTP Error 403: Forbidden (caused by <HTTPError 403: Forbidden>)", "forbidden"),
    ("Unable to download webpage: HTTP Error 404: Not Found", "not_found"),
    ("unable to download video data: HTTP Error 403: Forbidden", "forbidden"),
    ("HTTP Error 407: Proxy Authentication Required", "forbidden"),
    ("HTTP Error 500: Internal Server Error", "server_error"),
    ("HTTP Error 503: Service Unavailable", "server_error"),
    ("HTTP Error 418: I'm a teapot", "bad_address"),
    ("[download] Got error: HTTP Error 504: Gateway Timeout", "server_error"),
    ("[download] Got error: Downloaded 5 bytes, expected 10 bytes", "truncated"),
    ("fragment 7 not found, unable to continue", "truncated"),
    ("Unable to download webpage: The read operation timed out", "network"),
    ("Unable to download webpage: [Errno -2] Name or service not known", "network"),
    ("This request requires browser impersonation, however you may be missing dependencies", "no_format"),
    ("m3u8 download detected but ffmpeg could not be found. Please install", "no_format"),
    ("It is odd. Use --cookies, or sign in with a password", "internal"),
    ("", "internal"),
    ("Ошибка", "internal"),
]


@pytest.mark.parametrize("text, reason", YOUTUBE_SAYS + OTHERS_SAY)
def test_words_tell_the_reason(text, reason):
    for error in (
        utils.ExtractorError(text, expected=True, video_id="abc", ie="youtube"),
        utils.DownloadError(f"\x1b[0;31mERROR:\x1b[0m {text}"),
        Exception(text),
    ):
        assert classify(error).reason == reason, classify(error)


def test_words_that_are_not_of_the_site_do_not_count():
    for word in ("private video", "copyright", "not a bot", "rate-limited"):
        slug = word.replace(" ", "-")
        error = utils.ExtractorError(f"Cannot read https://h/{slug}?q={slug}", video_id=f"{word}", ie=slug)
        assert classify(error).reason == "internal"
        assert classify(utils.UnsupportedError(f"https://h/{word}")).reason == "wrong_content"


def test_the_message_tells_what_to_do():
    assert NEEDS_UPDATE in str(classify(utils.ExtractorError("The page needs to be reloaded.", expected=True)))
    warnings = ["[youtube] abc: n challenge solving failed: Some formats may be missing"]
    error = classify(utils.ExtractorError("Requested format is not available" + "!" * 9999, expected=True), warnings)
    assert str(error).endswith(NEEDS_JAVASCRIPT) and len(str(error)) <= LONGEST_MESSAGE


@pytest.mark.parametrize(
    "text, expected",
    [
        ("\x1b[0;31mred\x1b[0m and \x1b]0;title\x07\x9b plain\x00\n\n  line\u202e two", "red and plain line two"),
        ("cannot open /home/somebody/secret/file.part: denied", "cannot open (a local file): denied"),
        ("cannot open 'C:\\Users\\somebody\\file': denied", "cannot open '(a local file)': denied"),
        ("no way to http://user:pass@host:80/a/b and on", "no way to http://***@host:80/a/b and on"),
        ("no way to http://user:pa@ss@host/a@b and x@y", "no way to http://***@host/a@b and x@y"),
        ("no way to https://host/a?sig=secret&v=abc.", "no way to https://host/a?sig=***&v=abc"),
        ("sent Cookie: SID=secret; HSID=secret", "sent cookie: (not shown)"),
        ("sent Authorization: Basic c2VjcmV0", "sent Authorization: (not shown)"),
        ("broken; please report this issue on  https://github.com/yt-dlp/yt-dlp/issues", "broken"),
        ("log in. Use --cookies for the authentication. See  https://github.com/x", "log in"),
        ("", "no word of explanation"),
        ("x" * 9999, "x" * (LONGEST_MESSAGE - 1) + "…"),
    ],
)
def test_messages_are_fit_for_the_ledger(text, expected):
    assert tidy(text) == expected


def test_hostile_words_take_no_time():
    begun = time.process_time()
    for piece in (
        "a",
        " ",
        "/",
        "a/",
        "://",
        "@",
        "account ",
        "\x1b[",
        "user user ",
        "http error 404: ",
        "cookie:",
        "‘’",
        "\\",
    ):
        text = piece * (1_000_000 // len(piece))
        error = utils.ExtractorError(text, expected=True)
        assert len(str(classify(error, [text] * 5))) <= LONGEST_MESSAGE
    assert time.process_time() - begun < 10


def test_causes_that_go_in_a_circle_end():
    first, second = utils.ExtractorError("first"), utils.ExtractorError("second")
    first.cause, second.cause = second, first
    assert len(list(ytdlp_errors.causes(first, contexts=True))) == 2


# What yt-dlp leaves


class FakeDownloader(YtDlp):
    """The source with a yt-dlp that only leaves a file in its folder and says which suffix it has."""

    leave = staticmethod(lambda path: path.write_bytes(VIDEO))
    suffix = "mp4"

    @contextlib.contextmanager
    def downloader(self, row, folder, log):
        self.leave(folder / "video")
        yield SimpleNamespace(extract_info=lambda address: {"ext": self.suffix})


@pytest.fixture
def fake(scratch):
    text = "yt-dlp:https://site.test/{id}"
    return FakeDownloader.open(text, Fetching((text,)), scratch)


@pytest.mark.parametrize(
    "suffix, name",
    [
        ("webm", "abc.webm"),
        ("../mp4", "abc.video"),
        ("a" * 9, "abc.video"),
        ("", "abc.video"),
    ],
)
def test_only_a_plain_suffix_is_taken(fetch, fake, suffix, name):
    fake.suffix = suffix
    assert fetch(source=fake) == (Download(name), VIDEO)


@pytest.mark.parametrize(
    "leave, reason, says",
    [
        (lambda path: None, "internal", "without an error and without a file"),
        (lambda path: path.touch(), "truncated", "the file is empty"),
        (lambda path: path.mkdir(), "internal", "no file"),
        (lambda path: path.symlink_to("/etc/hostname"), "internal", "no file"),
    ],
)
def test_what_is_no_file_with_content_is_refused(fetch, fake, leave, reason, says):
    fake.leave = leave
    error = refusal(fetch, source=fake)
    assert error.reason == reason and says in str(error) and str(error).startswith("https://site.test/abc: ")


def test_a_video_is_announced_once_before_it_is_requested(fake, tmp_path):
    hosts = []
    fake.leave = lambda path: (hosts.append("requested"), path.write_bytes(VIDEO))
    fake.download(plan_row(), tmp_path / "downloaded", hosts.append)
    assert hosts == ["site.test", "requested"]


# How yt-dlp is set up


def test_the_log_keeps_the_first_warnings_and_cuts_them():
    log = ytdlp.WarningLog()
    log.debug("no warning")
    log.info("no warning")
    for number in range(60):
        (log.warning if number % 2 else log.error)(f"{number} " + "x" * 9999, once=True)
    assert [text.split()[0] for text in log.warnings] == [str(number) for number in range(50)]
    assert {len(text) for text in log.warnings} == {2000}


def test_nothing_of_the_users_own_takes_part(scratch, tmp_path, monkeypatch):
    """Neither configuration nor plugins: the plugin below would write a file."""
    plugin = tmp_path / "home/.yt-dlp/plugins/mine/yt_dlp_plugins/extractor"
    plugin.mkdir(parents=True)
    (plugin / "loud.py").write_text(f"open({str(tmp_path / 'loaded')!r}, 'w')")
    code = (
        "import sys; from pathlib import Path; from kinetics_prep.sources import ytdlp;"
        "from kinetics_prep.sources.fetching import Fetching; from types import SimpleNamespace;"
        "source = ytdlp.YtDlp.open('youtube', Fetching(('youtube',)), Path(sys.argv[1]));"
        "source.downloader(SimpleNamespace(media_id='x'), Path(sys.argv[1]), ytdlp.WarningLog()).close()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "YTDLP_NO_PLUGINS"}
    environment |= {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "home/.config")}
    subprocess.run([sys.executable, "-c", code, str(scratch)], check=True, env=environment, cwd=tmp_path)
    assert not (tmp_path / "loaded").exists()
    subprocess.run(
        [sys.executable, "-c", code, str(scratch)], check=True, env=environment | {"YTDLP_NO_PLUGINS": ""}, cwd=tmp_path
    )
    assert (tmp_path / "loaded").exists()  # so the plugin would have worked


def test_yt_dlp_knows_the_options_we_give_it(scratch, tmp_path):
    """It ignores unknown options, so that nobody would notice a renamed one."""
    log, bare = ytdlp.WarningLog(), ytdlp.WarningLog()
    source = opened("youtube", scratch, proxy="http://h", cookies=str(cookies(tmp_path)))
    source.downloader(plan_row(), scratch, log).close()
    yt_dlp.YoutubeDL({"logger": bare}).close()  # which complains of an old Python, whatever the options
    assert log.warnings == bare.warnings
    assert sys.version_info < (3, 11) or bare.warnings == []
    from yt_dlp import downloader

    documented = (
        yt_dlp.YoutubeDL.__doc__ + downloader.common.FileDownloader.__doc__ + downloader.fragment.FragmentFD.__doc__
    )
    for name in source._parameters(scratch, log):
        assert re.search(rf"\b{name}\b", documented), name
