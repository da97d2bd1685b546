"""What browsers receive: every template compiles, colours can be read, vendored files are unchanged."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from app.pages.parts.rendering import ENVIRONMENT, WEB, static_url

VENDOR = WEB / "static" / "vendor"
TEMPLATES = ENVIRONMENT.list_templates()


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_compiles(name):
    ENVIRONMENT.get_template(name)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if "/_" not in name and name != "layout.html"])
def test_every_page_stands_in_the_layout_that_gives_it_a_title(name):
    assert ENVIRONMENT.loader.get_source(ENVIRONMENT, name)[0].startswith('{% extends "layout.html" %}')


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_template_names_an_address_of_a_page(name):
    source = ENVIRONMENT.loader.get_source(ENVIRONMENT, name)[0]
    assert set(re.findall(r'(?:href|action|src|hx-get)="(/[^"{]*)', source)) <= {"/docs"}


def test_vendored_files_are_what_the_lock_says():
    lock = json.loads((VENDOR / "vendor.lock.json").read_text())
    there = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()}
    assert there == {*lock, "vendor.lock.json"}
    for name, digest in lock.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


def test_no_style_or_script_of_ours_asks_for_another_server():
    for path in (WEB / "static").glob("*.*"):
        assert not re.search(r"url\(\s*['\"]?https?:|@import|fetch\(\s*['\"]http", path.read_text()), (
            path.name
        )


def test_a_static_address_changes_with_its_content():
    assert re.fullmatch(r"/static/parts/theme\.css\?v=[0-9a-f]{12}", static_url("parts/theme.css"))


# ------------------------------------------------------------------------------------------------- contrast


def colours(sheet="parts/theme.css"):
    """Name -> (light, dark) of every colour that a style sheet gives as two hexadecimal values."""
    theme = (WEB / "static" / sheet).read_text()
    found = re.findall(r"(--[a-z0-9-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", theme)
    return {name: (light, dark) for name, light, dark in found}


def luminance(colour):
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_ink_can_be_read_on_every_class_of_reward(theme):
    named = colours()
    for sign in "pns":
        for level in range(1, 11):
            assert contrast(named["--ink"][theme], named[f"--{sign}{level}"][theme]) >= 4.87


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_words_can_be_read_on_every_surface(theme):
    named = colours()
    for ink in ("--ink", "--muted", "--accent", "--good", "--bad", "--warn"):
        for surface in ("--page", "--surface", "--raised"):
            assert contrast(named[ink][theme], named[surface][theme]) >= 4.5, (ink, surface)
    assert contrast(named["--accent-ink"][theme], named["--accent"][theme]) >= 4.5
    assert contrast(named["--ink"][theme], named["--bad-surface"][theme]) >= 4.5
    assert contrast(named["--ink"][theme], named["--warn-surface"][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_line_of_a_chart_stands_out_from_its_ground(theme):
    lines, surface = colours("parts/curves.css"), colours()["--surface"][theme]
    assert len(lines) == 6
    for name, both in lines.items():
        assert contrast(both[theme], surface) >= 4.5, name
