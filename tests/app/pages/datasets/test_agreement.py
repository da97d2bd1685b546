"""How well sources agree with people, on the page of a data set."""

from __future__ import annotations

import re

import pytest

from app.services.pairs import labels


@pytest.fixture
def page(browser_client, world):
    """The page of the scored data set, as it is now."""

    def read():
        answer = browser_client.get(f"/datasets/{world.dataset_id}")
        assert answer.status_code == 200
        return re.sub(r"\s+", " ", answer.text)

    return read


def test_without_labels_the_page_says_how_to_make_them(page):
    assert "nothing yet" in page()
    assert "AUROC with people" not in page()


def test_one_verdict_alone_tells_nothing_of_the_sources(page, world, database):
    with database.session() as session:
        labels.paint(session, world.pair_ids[1], "chosen", 0, 5, "wrong")
    assert "1 label on 1 pair: 1 wrong" in page()
    assert "once something is called right" in page()
    assert "AUROC with people" not in page()


def test_sources_stand_with_their_agreement_beside_that_with_planted_spans(page, world, database):
    with database.session() as session:
        labels.paint(session, world.pair_ids[1], "chosen", 0, 5, "right")  # Paris: +1.5
        labels.paint(session, world.pair_ids[1], "chosen", 6, 8, "wrong")  # is: -1.5
    shown = page()
    assert '<td class="num" title="1 token called wrong, 1 right"><b>1.000</b>' in shown
    assert "2 labels on 1 pair: 1 right, 1 wrong" in shown
    link = re.search(r'href="([^"]+)">show the labelled pairs', shown).group(1).replace("&amp;", "&")
    assert "labelled=1" in link


def test_the_link_leads_to_the_labelled_pairs_alone(browser_client, page, world, database):
    with database.session() as session:
        labels.paint(session, world.pair_ids[2], "chosen", 0, 5, "right")
        labels.paint(session, world.pair_ids[0], "chosen", 0, 5, "right")
        labels.paint(session, world.pair_ids[0], "chosen", 0, 5, None)
    link = re.search(r'href="([^"]+)">show the labelled pairs', page()).group(1).replace("&amp;", "&")
    listed = browser_client.get(link).text
    assert "pair-2" in listed
    assert "pair-1" not in listed
    assert "pair-0" not in listed
