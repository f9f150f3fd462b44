"""Addresses of videos: what a template gives, where a redirection leads, and that passwords are not written down."""

import pytest
from conftest import plan_row

from kinetics_prep.errors import BadAddress, BadOption
from kinetics_prep.sources.address import AddressTemplate, redirected, without_password


@pytest.mark.parametrize(
    "address, expected",
    [
        ("http://me:secret@host/a", "http://host/a"),
        ("https://me:sec@ret@host:81/a?b#c", "https://host:81/a?b#c"),
        ("http://secret@host", "http://host"),
        ("yt-dlp:https://me:secret@host/{id}", "yt-dlp:https://host/{id}"),
        ("//me:secret@host/a", "//host/a"),
        ("http://host/a@b", "http://host/a@b"),
        ("http://host?a@b", "http://host?a@b"),
        ("http://host#a@b", "http://host#a@b"),
        ("http://host/a//b@c", "http://host/a//b@c"),
        ("me@host", "me@host"),  # a folder may have this name
        ("a folder", "a folder"),
    ],
)
def test_user_and_password_are_left_out_and_nothing_else(address, expected):
    assert without_password(address) == expected


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
    with pytest.raises(BadAddress, match="^http://host/a leads to") as caught:
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
