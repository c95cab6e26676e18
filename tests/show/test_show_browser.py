"""The page of qattn show in a real browser: what is chosen is what is shown."""

from itertools import pairwise

import pytest
import torch
from _support.browser import WIDTHS
from _support.shown import a_model

from qattn.show import layers_of, write_page

TOKENS = torch.tensor([3, 1, 4, 1, 5, 0])
NAMES = ["To", " ", "<b>be</b>", '"', "\n", "or"]
SHOWN = ["To", "␣", "<b>be</b>", '"', "↵", "or"]


@pytest.fixture(scope="module")
def model():
    return a_model(beta="learnable")


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("show") / "page.html"
    for block in model.blocks:
        block.attention.log_beta.data = torch.tensor([0.2, -0.3])
    write_page(model, TOKENS, NAMES, path, text="To be", about={"run": "first"})
    return path


@pytest.fixture
def view(browser, page):
    """The page, started; it complains of nothing and asks for nothing but itself."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints, requests = [], []
    opened.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(page.as_uri())
    opened.wait_for_selector("#tokens button")
    yield opened
    assert complaints == []
    assert requests == [page.as_uri()]
    opened.close()


def number(view, name):
    """A number of the tables, all digits of it."""
    return float(view.get_attribute(f"#{name}", "title"))


def check(view, model, layer, head, query, position):
    """Every number that is shown is the model's, at this place and no other."""
    found = layers_of(model, TOKENS)[layer]
    w, z, beta = found.weights[head], found.scores[head].double(), found.beta[head].double()
    J = found.couplings[head]
    seen = torch.arange(len(TOKENS)) <= query
    alone = (beta * z).sigmoid()
    assert number(view, "weight") == w[query, position].item()
    assert number(view, "alone") == pytest.approx(alone[query, position].item(), rel=1e-9)
    assert number(view, "field") == z[query, position].item() / 2
    assert number(view, "score") == z[query, position].item()
    assert number(view, "sum") == pytest.approx(w[query].double().sum().item(), rel=1e-9)
    assert number(view, "sum-alone") == pytest.approx(alone[query][seen].sum().item(), rel=1e-9)
    assert number(view, "beta") == pytest.approx(beta.item(), rel=1e-6)
    pull = J[position].double() @ ((2 * w[query].double() - 1) * seen)
    assert number(view, "pull") == pytest.approx(pull.item(), rel=1e-9)
    strongest = (J[position] * seen).abs().argsort(descending=True)
    assert view.inner_text("#partners li:first-child").split()[2] == str(strongest[0].item())
    assert view.inner_text("#query-name").split() == [str(query), SHOWN[query]]
    bars = view.evaluate("qattn.models().bars.data.weight")
    assert bars[: query + 1] == w[query, : query + 1].tolist()
    assert all(bar is None or bar != bar for bar in bars[query + 1 :])


def test_tokens_heads_layers_and_keys(view, model):
    assert [t.split("\n")[0] for t in view.locator("#tokens button").all_inner_texts()] == SHOWN
    check(view, model, 0, 0, 5, 5)
    view.click("#tokens button:nth-child(5)")
    check(view, model, 0, 0, 4, 4)
    view.hover("#tokens button:nth-child(2)")
    check(view, model, 0, 0, 4, 1)
    view.select_option("#head", "1")
    check(view, model, 0, 1, 4, 1)
    view.click('#heads button[data-layer="1"][data-head="0"]')
    check(view, model, 1, 0, 4, 1)
    view.select_option("#layer", "0")
    view.select_option("#query", "3")
    check(view, model, 0, 0, 3, 1)
    view.click("h1")
    view.keyboard.press("ArrowDown")
    view.keyboard.press("ArrowLeft")
    check(view, model, 0, 1, 2, 2)
    view.keyboard.press("PageDown")
    check(view, model, 1, 1, 2, 2)
    # What is not seen has no numbers.
    view.hover("#tokens button:nth-child(6)")
    assert view.inner_text("#weight") == "–"
    assert view.get_attribute("#tokens button:nth-child(6)", "class") == "absent pointed"
    # Negative control: another head has other numbers.
    view.hover("#tokens button:nth-child(2)")
    with pytest.raises(AssertionError):
        check(view, model, 1, 0, 2, 1)


def test_a_link_opens_where_it_was_left(view, page, browser, model):
    view.select_option("#head", "1")
    view.click("#tokens button:nth-child(4)")
    again = browser.new_page()
    again.goto(view.url)
    again.wait_for_selector("#tokens button")
    check(again, model, 0, 1, 3, 3)
    again.close()


def middle(view, name, x, y):
    """The place on the screen of a point of a figure."""
    view.locator(f"#figure-{name}").scroll_into_view_if_needed()
    return view.evaluate(
        """([name, x, y]) => {
          const id = document.querySelector(`#figure-${name} [data-root-id]`).dataset.rootId;
          const view = Bokeh.index.get_by_id(id), box = view.el.getBoundingClientRect();
          const frame = view.frame, at = (range, value) => range.compute(value);
          return [box.x + at(frame.x_scale, x), box.y + at(frame.y_scale, y)];
        }""",
        [name, x, y],
    )


def test_mouse_over_the_figures(view, model):
    view.mouse.click(*middle(view, "pattern", 1, 3))  # row 3 is a query
    view.wait_for_function("qattn.state.query === 3")
    check(view, model, 0, 0, 3, 1)
    view.mouse.move(*middle(view, "couplings", 0, 2))  # row 2 is a position
    view.wait_for_function("qattn.state.position === 2")
    check(view, model, 0, 0, 3, 2)
    view.mouse.click(*middle(view, "weights", 4, 0.01))
    view.wait_for_function("qattn.state.query === 4")
    check(view, model, 0, 0, 4, 4)
    J, w = layers_of(model, TOKENS)[0].couplings[0], layers_of(model, TOKENS)[0].weights[0]
    image = view.evaluate("[...qattn.models().couplings_source.data.image[0]]")
    assert image == J.flatten().tolist()
    image = view.evaluate("[...qattn.models().pattern_source.data.image[0]]")
    seen = torch.ones(6, 6).tril().flatten().bool()
    assert torch.tensor(image)[seen].equal(w.flatten()[seen])
    top = view.evaluate("qattn.models().coupling_colours.high")
    assert top == J.abs().max().item()
    view.check("#fixed")
    everywhere = layers_of(model, TOKENS)[0].couplings.abs().max().item()
    assert view.evaluate("qattn.models().coupling_colours.high") == everywhere
    assert view.evaluate("qattn.models().weight_colours.high") == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_page_fits(browser, page, width):
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto(page.as_uri())
    opened.wait_for_selector("#tokens button")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.evaluate("document.body.scrollWidth") <= width
    # No two cards of a row overlap, and figures fill theirs.
    boxes = [card.bounding_box() for card in opened.locator(".card").all()]
    for one, other in pairwise(boxes):
        beside = one["x"] + one["width"] <= other["x"] + 1
        above = one["y"] + one["height"] <= other["y"] + 1
        assert beside or above
    assert opened.locator(".bk-Figure").count() == 6
    opened.close()


@pytest.mark.parametrize("arm", ["cardinality", "softmax"])
def test_other_arms(browser, tmp_path, arm):
    model = a_model(attention=arm)
    write_page(model, TOKENS, NAMES, tmp_path / "page.html")
    opened = browser.new_page()
    complaints = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto((tmp_path / "page.html").as_uri())
    opened.wait_for_selector("#tokens button")
    found = layers_of(model, TOKENS)[0]
    assert number(opened, "weight") == found.weights[0, 5, 5].item()
    if arm == "cardinality":
        values = opened.evaluate("qattn.models().potential_source.data.value")
        assert values == pytest.approx(found.potential[0].tolist(), rel=1e-6)
        mean = opened.evaluate("qattn.models().mean_count.location")
        assert mean == pytest.approx(found.weights[0, 5].sum().item(), rel=1e-6)
    else:
        assert number(opened, "sum") == pytest.approx(1, rel=1e-6)
        assert opened.locator("#alone").count() == 0
    assert complaints == []
    opened.close()
