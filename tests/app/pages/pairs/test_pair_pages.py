"""The pair page's looks: tracks, what differs, all sources, the token with the focus, the link that lasts."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import pytest

from app.services.pairs import pairs
from tests.app import factories
from tests.app.tracked import make_tracked_run

SOURCES = ("implicit", "rm_prefix")
PREFERRED = "Paris is certainly the capital of France and it lies on a river"
OTHER = "Rome is certainly the capital of France and it lies on a hill"


@dataclass(frozen=True)
class Scored:
    """A pair that two sources have scored, with every track; and one that lacks its rejected response."""

    run_id: int
    pair_id: int
    lone_id: int

    def path(self, query: str = "", pair_id: int | None = None) -> str:
        return f"/pairs/{pair_id or self.pair_id}?run={self.run_id}{query and '&'}{query}"


@pytest.fixture
def scored(database, settings) -> Scored:
    rows = [factories.preference_pair(0, PREFERRED, OTHER), factories.preference_pair(1, PREFERRED, None)]
    with database.session() as session:
        run = make_tracked_run(session, settings, rows, SOURCES)
        found = pairs.list_pairs(session, run.dataset_id).items
        return Scored(run.id, found[0].pair.id, found[1].pair.id)


def get(client, path):
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def view_of(page):
    return page.split('id="view"')[1]


@pytest.mark.parametrize(
    ("track", "unit", "low", "high"),
    [
        ("logprob", "log-probability of the policy, nats", "0", "−14.0"),
        ("reference", "log-probability of the reference, nats", "0", "−14.5"),
        ("entropy", "entropy of the policy, nats", "0", "3.25"),
        ("rank", "rank of the token, order of size", "0", "13"),
        ("ratio", "log-probability, policy less reference, nats", "−0.500", "+0.500"),
    ],
)
def test_a_track_colours_both_sides_with_a_legend_of_its_own(browser_client, scored, track, unit, low, high):
    page = get(browser_client, scored.path(f"lane={track}"))
    ramp = page.split('class="ramp"')[1].split("clipped")[0]
    assert unit in ramp
    assert f"<b>{low}</b>" in ramp
    assert f"<b>{high}</b>" in ramp
    assert f'data-track="{track}"' in page
    assert ('<div id="view" class=" sequential"' in page) == (track != "ratio")
    assert re.search(rf'value="{track}" checked', page)


def test_every_track_is_a_switch_that_says_what_it_means(browser_client, scored):
    switches = get(browser_client, scored.path()).split('class="tracks"')[1].split("</fieldset>")[0]
    assert re.findall(r'value="(\w+)"', switches) == [
        "reward", "logprob", "reference", "entropy", "rank", "ratio", "gradient",
    ]  # fmt: skip
    assert "disabled" not in switches
    assert re.findall(r'<label(?! title="\w)', switches) == []


def test_a_track_that_the_run_lacks_is_shut_and_says_why(browser_client, world):
    page = get(browser_client, f"/pairs/{world.pair_ids[0]}?lane=entropy")
    assert 'data-track="reward"' in page
    assert "did not store the policy&#39;s entropies" in page
    assert 'value="entropy" disabled' in page


def test_what_differs_is_marked_on_both_sides_when_asked(browser_client, scored):
    plain, marked = (get(browser_client, scored.path(query)) for query in ("", "diff=1"))
    assert "<span class=d>" not in plain
    stretches = re.findall("<span class=d>(.*?)</span>", marked)
    words = [re.sub("<[^>]*>", "", stretch) for stretch in stretches]
    assert words == ["Paris", " river", "Rome", " hill"]
    assert "not in the other response: 14% of chosen, 14% of rejected" in marked


def test_a_lone_response_differs_from_nothing(browser_client, scored):
    page = get(browser_client, scored.path("diff=1", scored.lone_id))
    assert "<span class=d>" not in view_of(page)
    assert "nothing that it could differ from" in page


def test_every_response_has_a_map_of_all_its_tokens(browser_client, scored):
    page = get(browser_client, scored.path())
    assert re.findall(r'class="minimap" data-side="(\w+)"', page) == ["chosen", "rejected"]
    assert re.findall(r"class=map [^>]*data-count=(\d+)", page) == ["14", "14"]


def test_all_sources_stand_one_below_the_other(browser_client, scored):
    page = get(browser_client, scored.path("beside=1&diff=1"))
    assert page.count('class="by-source') == len(SOURCES)
    assert page.count("data-tokens=") == len(SOURCES)
    assert "Sources disagree" in page
    assert len(re.findall(r"on [1-9]\d*% of the tokens", page)) == 2, "a share of each side"
    assert page.count("cut by the controls") == 1
    assert page.count("data-p=1>") >= 2 * len(SOURCES)
    links = [html.unescape(link) for link in re.findall(r'<h2><a href="([^"]+)"', page)]
    assert all("diff=1" in link and "beside" not in link for link in links)


def test_the_controls_cut_the_shown_source_and_leave_the_others(browser_client, scored):
    page = get(browser_client, scored.path("beside=1&delta=50"))
    shown, other = (part.split("</section>")[0] for part in page.split('class="by-source')[1:])
    assert shown.count("pivots <b>0</b>") == 2
    assert "pivots <b>0</b>" not in other


def test_a_run_with_one_source_offers_no_comparison_but_answers_its_address(browser_client, world):
    page = get(browser_client, f"/pairs/{world.pair_ids[1]}?beside=1")
    assert "All sources" not in page
    assert page.count('class="by-source') == 1


def test_a_refused_crossing_is_told_from_one_that_turned(browser_client, scored):
    page = get(browser_client, scored.path("delta=2&baseline=zero&scale=none"))
    assert re.search('<i class="b-?[0-9]+ x">', page)
    assert "stayed within ±2" in page
    assert "data-p=1" in page


def test_a_smoothed_signal_sends_how_far_its_crossings_went(browser_client, scored):
    plain = get(browser_client, scored.path("delta=2&baseline=zero&scale=none"))
    smoothed = get(browser_client, scored.path("delta=9&baseline=zero&scale=none&smoothing=median"))
    assert '"reaches"' not in plain
    assert '"reaches":{"' in smoothed


def test_the_look_goes_along_to_the_next_pair_but_not_the_token(browser_client, scored):
    page = get(browser_client, scored.path("lane=rank&diff=1&beside=1&view=mask&at=chosen-3"))
    following = html.unescape(re.search(r'rel="next" href="([^"]+)"', page)[1])
    query = parse_qs(urlsplit(following).query)
    assert {name: query[name] for name in ("lane", "diff", "beside", "view")} == {
        "lane": ["rank"], "diff": ["1"], "beside": ["1"], "view": ["mask"],
    }  # fmt: skip
    assert "at" not in query


def test_the_link_shows_the_same_after_the_run_was_cut_anew(browser_client, scored):
    before = get(browser_client, scored.path("delta=0.7&lane=entropy&diff=1&at=rejected-2"))
    link = html.unescape(re.search(r'id="copy-link" href="([^"]+)"', before)[1])
    query = parse_qs(urlsplit(link).query)
    assert query["run"] == [str(scored.run_id)]
    assert query["source"] == ["implicit"]
    assert query["at"] == ["rejected-2"]

    adopted = browser_client.post(
        f"/pairs/{scored.pair_id}/rule?run={scored.run_id}&source=implicit&delta=50",
        headers={"Origin": "http://127.0.0.1:8321"},
        follow_redirects=False,
    )
    assert adopted.status_code == 303
    assert get(browser_client, scored.path()).count("pivots <b>0</b>") == 2

    def text(page):
        return re.findall(r'<div class="response".*?</article>', page, re.DOTALL)

    assert text(get(browser_client, link)) == text(before)


def test_a_redrawn_view_keeps_the_token_in_the_address(browser_client, scored):
    path = scored.path("source=implicit&at=chosen-3&lane=rank").replace("?", "/view?")
    answer = browser_client.get(path)
    assert "at=chosen-3" in answer.headers["HX-Replace-Url"]
    assert "lane=rank" in answer.headers["HX-Replace-Url"]


def test_all_keys_are_told_in_the_help(browser_client, scored):
    page = get(browser_client, scored.path())
    told = page.split('<dialog id="help"')[1].split("</dialog>")[0]
    keys = set(re.findall("<kbd>(.+?)</kbd>", told))
    assert {*"jklhmdsc?1→←↑↓", "Home", "End", "Esc"} <= keys
    assert 'id="keys-on"' in told, "single keys can be switched off"


def test_the_patterns_show_every_look_with_hard_texts(browser_client):
    page = get(browser_client, "/patterns")
    assert page.count("<span class=d>") > 5
    assert "Sources disagree" in page
    assert page.count('<section class="sequential">') == 3
