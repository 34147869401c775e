"""The memory on the right: what a change does, that it is told first where it can be, and that it can be undone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from support.playground import Playground

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


@pytest.fixture
def talked(playground: Playground) -> Playground:
    """After a turn that has filled the memory."""
    playground.talk("The name of my sister is Alexander, and that of my brother is Ann.")
    looked(playground)
    return playground


def looked(playground: Playground) -> None:
    """Wait until the drawing is of the present state."""
    note = playground.memory.get_by_text(f"As of position {playground.session()['position']}.")
    expect(note).to_be_visible()


def operations(playground: Playground) -> list[str | None]:
    return [turn["operation"] for turn in playground.ask(f"/v1/sessions/{playground.id}/turns")["data"]][::-1]


def drawn(playground: Playground) -> str | None:
    return norms(playground).get_attribute("aria-label")


def norms(playground: Playground) -> Locator:
    return playground.memory.locator("svg.norms")


def test_a_cleaning_is_tried_done_and_undone(talked: Playground) -> None:
    before, head = drawn(talked), talked.session()["head"]
    for label, value in (("Keep energy", "0.5"), ("Drop strongest", "1")):
        talked.memory.get_by_label(label).fill(value)
    talked.button("Try cleaning").click()
    region = talked.page.get_by_role("region", name="What cleaning would do")
    expect(region).to_contain_text("nats (KL)")
    expect(region).to_be_focused()
    dry = region.inner_text()
    rows = region.get_by_role("row")
    assert rows.count() == 1 + len(talked.ask(f"/v1/sessions/{talked.id}/memory")["matrices"])
    assert (talked.session()["head"], drawn(talked)) == (head, before)

    talked.button("Clean", region).click()
    expect(talked.notice).to_contain_text("Cleaned: ")
    moved = (talked.notice.inner_text()).partition("moves by ")[2].partition(" nats")[0]
    assert f"moves by {moved} nats" in dry
    expect(talked.log).to_contain_text("The memory was cleaned.")
    expect(norms(talked)).not_to_have_attribute("aria-label", before or "")
    assert operations(talked) == [None, "svd-clean"]

    talked.button("Undo").click()
    expect(norms(talked)).to_have_attribute("aria-label", before or "")
    assert talked.session()["head"] == head
    expect(talked.log).not_to_contain_text("cleaned")
    expect(talked.button("Undo")).to_be_hidden()
    expect(talked.button("Reset")).to_be_focused()


def test_a_trial_is_of_the_figures_that_are_there(talked: Playground) -> None:
    talked.button("Try cleaning").click()
    region = talked.page.get_by_role("region", name="What cleaning would do")
    expect(region).to_be_visible()
    talked.memory.get_by_label("Rank at most").fill("2")
    expect(region).to_be_hidden()
    talked.button("Try cleaning").click()
    expect(region).to_contain_text("→ 2")
    talked.button("Leave it").click()
    expect(region).to_be_hidden()
    assert operations(talked) == [None]


def test_a_memory_is_frozen_unfrozen_and_emptied(talked: Playground) -> None:
    before = drawn(talked)
    talked.button("Freeze").click()
    expect(talked.memory).to_contain_text("Frozen: it is read, but not written.")
    talked.talk("And this is not remembered, however long it is.")
    looked(talked)
    assert drawn(talked) == before
    talked.button("Unfreeze").click()
    expect(talked.memory).to_contain_text("It is read and written.")
    talked.memory.get_by_label("Empty").select_option("both")
    talked.button("Reset").click()
    expect(talked.log).to_contain_text("The memory was reset.")
    empty = ", ".join(f"layer {layer}: 0" for layer in (1, 3))
    expect(norms(talked)).to_have_attribute("aria-label", f"Norm of the memory by layer. {empty}.")
    assert operations(talked) == [None, "freeze", None, "unfreeze", "reset"]
    talked.page.reload()
    talked.button("Undo").click()
    expect(talked.log).not_to_contain_text("reset")
    assert operations(talked) == [None, "freeze", None, "unfreeze"]
