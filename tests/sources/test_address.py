"""Addresses of videos: what a template gives, where a redirection leads, and that passwords are not written down."""

import pytest
from conftest import plan_row
from hypothesis import given
from hypothesis import strategies as st

from kinetics_prep.errors import BadAddress, BadOption
from kinetics_prep.sources.address import (
    FIELDS,
    AddressTemplate,
    redirected,
    without_secret_words,
    without_secrets,
    without_secrets_in,
)


@pytest.mark.parametrize(
    "address, expected",
    [
        ("http://me:secret@host/a", "http://***@host/a"),
        ("https://me:sec@ret@host:81/a?b#c", "https://***@host:81/a?b#c"),
        ("http://secret@host", "http://***@host"),
        ("yt-dlp:https://me:secret@host/{id}", "yt-dlp:https://***@host/{id}"),
        ("//me:secret@host/a", "//***@host/a"),
        ("http://host/a@b", "http://host/a@b"),
        ("http://host?a@b", "http://host?a@b"),
        ("http://host#a@b", "http://host#a@b"),
        ("http://host/a//b@c", "http://host/a//b@c"),
        ("me@host", "me@host"),  # a folder may have this name
        ("a folder", "a folder"),
    ],
)
def test_user_and_password_are_hidden_and_nothing_else(address, expected):
    assert without_secrets(address) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "x-goog-signature", "AWSAccessKeyId"),
        *("sig", "Signature", "Key-Pair-Id", "Policy", "token", "access_token", "api_key", "apiKey", "key", "auth"),
        *("password", "pwd", "jwt", "GoogleAccessId", "authToken", "session_id", "%74oken", "SIG", "hmac"),
    ],
)
def test_a_parameter_with_a_telling_name_is_hidden(name):
    for before, after in (("?", ""), ("?v=ID&", "&dl=1"), ("?v={id};", "&c"), ("#", ""), ("?v=a&amp;", ";x=y")):
        address = f"https://host/{{id}}.mp4{before}{name}="
        assert without_secrets(f"{address}ab c'd{after}") == f"{address}***{after}"


@pytest.mark.parametrize(
    "name", ["v", "dl", "list", "author", "design", "keyword", "passage", "path", "id", "sign_off"]
)
def test_a_short_value_of_another_name_stays(name):
    address = f"https://host/a?{name}=dQw4w9WgXcQ&n=123456789012345#t=5"
    assert without_secrets(address) == address.replace("sign_off=dQw4w9WgXcQ", "sign_off=***")


@pytest.mark.parametrize(
    "address, expected",
    [
        ("http://h/?x=1234567890123456", "http://h/?x=***"),
        ("http://h/?x={id}_{start:06d}_{end:06d}", "http://h/?x={id}_{start:06d}_{end:06d}"),
        ("http://h/?x={start:#x}&token={start:#x}a&y=1", "http://h/?x={start:#x}&token=***&y=1"),
        ("http://h/?1234567890123456", "http://h/?***"),
        ("http://h/?MTIzNDU2Nzg5MDEyMw==&a", "http://h/?***&a"),
        ("http://h/?{id}&a=", "http://h/?{id}&a="),
        ("http://h/{id};jsessionid=AB?c=d&e", "http://h/{id};jsessionid=***&e"),
        ("http://h/?v=1;token=a;b;c=d;e&f", "http://h/?v=1;token=***;c=d;e&f"),
        ("http://h/?u=https://me:pw@g/{id}?sig=x&v=1", "http://h/?u=https://***@g/{id}?sig=***&v=1"),
        ("http://h/?u=https%3A%2F%2Fme%3Apw%40g%2F{id}", "http://h/?u=***"),
        ("http://h/?u=https%3A%2F%2Fg%2F{id}", "http://h/?u=https%3A%2F%2Fg%2F{id}"),
        ("/a?sig=x", "/a?sig=***"),
        ("youtube", "youtube"),
    ],
)
def test_which_values_are_hidden(address, expected):
    assert without_secrets(address) == expected
    assert without_secrets(expected) == expected


WORDS = st.text("abcXYZ019-._~%+ '\"(){}", max_size=8)


@given(st.lists(st.tuples(WORDS, st.sampled_from(["=", ""]), WORDS)), st.sampled_from("&;"), WORDS, WORDS)
def test_no_secret_stays_whatever_is_beside_it(parameters, separator, user, password):
    secret = "SeCrEtSeCrEtSeCrEt"
    beside = separator.join(map("".join, parameters))
    for signed in (f"x={secret}", f"token={secret}", secret):
        address = f"https://{user}{secret}:{password}@host/a?{beside}&{signed}&{beside}"
        shown = without_secrets(address)
        assert secret not in shown


@pytest.mark.parametrize(
    "address",
    ["?a=" * 50_000 + "{x}", "?a=%" + "25" * 50_000 + "{x}", "://" * 50_000, "?{" * 50_000, "?a=" + "{a" * 50_000],
)
def test_an_address_of_any_depth_is_read_to_its_end(address):
    without_secrets(address)
    without_secrets_in(address, (address,))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("exceeded with url: /a?sig=x&v=3 (Caused by Y)", "exceeded with url: /a?sig=***&v=3 (Caused by Y)"),
        (
            "no 'http://me:pw@h/a?sig=x' (at \"http://h/?v=1&key=a\").",
            "no 'http://***@h/a?sig=***' (at \"http://h/?v=1&key=***\").",
        ),
        ("a@b; key = c, what? token: d", "a@b; key = c, what? token: d"),
        ("cut http://h/?v=1&sig=\u2026", "cut http://h/?v=1&sig=***"),
    ],
)
def test_addresses_in_a_text_lose_their_secrets(text, expected):
    assert without_secrets_in(text) == expected


def test_secrets_of_an_address_are_hidden_wherever_a_text_has_them():
    address = "http://me:long%20pass@host/{id}?token=a%2Fbcdef&x=1234567890123456&v=short&u=http://h/{id}?key=inner-key"
    text = "of long pass, long%20pass, a/bcdef, a%2Fbcdef, 1234567890123456, short, inner-key"
    assert without_secret_words(text, (address,)) == "of ***, ***, ***, ***, ***, short, ***"
    assert without_secret_words("to me", ("http://me:me@host/?key=to",)) == "to me"  # words that any text may have


def test_a_rows_own_values_are_shown_however_long():
    template = AddressTemplate("https://me:pw@h/get?v={id}&split={split}&token=secret&key=a/{id}")
    row = plan_row("an-id-of-more-than-16-characters")
    assert template.address(row).endswith("&token=secret&key=a/an-id-of-more-than-16-characters")
    assert template.shown(row) == "https://***@h/get?v=an-id-of-more-than-16-characters&split=train&token=***&key=***"


def test_no_field_is_a_secret():
    for field in FIELDS:
        assert without_secrets(f"https://h/?x={{{field}}}").endswith(f"{{{field}}}")


@pytest.mark.parametrize(
    "target, expected",
    [
        ("/b.mp4", "http://me:secret@host/b.mp4"),
        ("b.mp4?c", "http://me:secret@host/a/b.mp4?c"),
        ("https://other/b", "https://other/b"),
        ("//other/b", "http://other/b"),
        ("http://you:other@other/b", "http://you:other@other/b"),
    ],
)
def test_a_redirection_to_another_host_does_not_keep_the_password(target, expected):
    assert redirected("http://me:secret@host/a/a.mp4", target) == expected


@pytest.mark.parametrize(
    "target", ["ftp://h/a", "file:///etc/passwd", "http://[::1/", "//me:secret@/", "http://me:secret@/"]
)
def test_a_redirection_to_something_else_is_refused_without_naming_a_password(target):
    with pytest.raises(BadAddress, match=r"^http://\*\*\*@host/a leads to") as caught:
        redirected("http://me:secret@host/a", target)
    assert "secret" not in str(caught.value)


def test_a_long_redirection_is_cut_in_the_message():
    with pytest.raises(BadAddress) as caught:
        redirected("http://host/a", "ftp://" + "x" * 10_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "template", ["http://me:secret@host/{x}", "http://me:secret@host/{id}{", "http://me:secret@/{id}"]
)
def test_a_bad_template_is_named_without_its_password(template):
    with pytest.raises(BadOption, match="--videos 'http://") as caught:
        AddressTemplate(template)
    assert "secret" not in str(caught.value)


def test_a_row_that_does_not_fit_is_refused_without_naming_the_password():
    with pytest.raises(BadAddress, match="does not fit start 1.5") as caught:
        AddressTemplate("http://me:secret@host/{id}_{start:d}").address(plan_row(start=1.5))
    assert "secret" not in str(caught.value) and caught.value.attempts == 0


def test_whole_seconds_have_no_decimals_and_every_field_is_quoted():
    template = AddressTemplate("http://host/{split}/{label}/{id}_{start}_{end}")
    row = plan_row("a/b", 5.0, 15.5, "tr ain", "a&b")
    assert template.address(row) == "http://host/tr%20ain/a%26b/a%2Fb_5_15.5"
    assert template.has_start and template.host == "host"


def test_a_missing_label_is_empty_and_a_missing_end_is_needed_only_if_the_template_has_it():
    row = plan_row("abc", 0.0, None, label=None)
    assert AddressTemplate("http://host/{label}/{id}").address(row) == "http://host//abc"
    assert not AddressTemplate("http://host/{id}").has_start
    with pytest.raises(BadAddress, match="whole video"):
        AddressTemplate("http://host/{id}_{end}").address(row)
