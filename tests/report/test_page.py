"""The page in a real browser: keys, clicks, what is shown, what is asked for, and who can read it."""

import io
from importlib import resources

import pytest
from PIL import Image

from tests.report.browser import Viewer, chromium
from tests.report.results import Results, photo, photo_colour
from tests.report.test_report import HOSTILE, LABELS, hostile, lrp

pytestmark = pytest.mark.slow
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def made(output, *options):
    done = lrp("report", output, "-j", "2", "-q", *options)
    assert done.exit_code == 0, done.output
    return output / "index.html"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Twelve images in folders that name classes, and two failures."""
    place = tmp_path_factory.mktemp("few")
    results = Results(place / "out", place / "photos").add_many(12, folders=["cat", "dog", "bird"], failed=2)
    results.add("top.png", targets=2, label="yacht", score=0.5, kept=-0.25)
    return made(results.output)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """10,000 images, those of the first of seven folders with pictures."""
    place = tmp_path_factory.mktemp("many")
    results = Results(place / "out", save=["overlay"])
    source = place / "overlay.png"
    Image.new("RGB", (64, 48), "teal").save(source)

    def link(paths, number):
        target = results.output / paths["overlay"]
        if number % 7:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(source)

    results.add_many(10_000, folders=[f"folder-{number}" for number in range(7)], files=link)
    return made(results.output)


@pytest.fixture
def view(browser):
    """Opens a page; at the end no script on it has failed, and it has asked for nothing but files."""
    opened = []

    def open_page(path, **options):
        opened.append(Viewer(browser, path, **options))
        return opened[-1]

    yield open_page
    for viewer in opened:
        assert viewer.errors == []
        assert [url for url in viewer.asked if not url.startswith(("file:", "data:", "blob:"))] == []
        viewer.context.close()


def test_the_images_are_shown_with_class_score_and_kept_share(few, view):
    page = view(few)
    assert page.count == "15 of 15"
    assert page.names[:3] == ["bird/000002.png", "bird/000005.png", "bird/000008.png"]
    assert page.texts("#list li:first-child b") == ["bird"]
    assert page.texts("#list li:first-child span") == ["98%, kept 2.5%"]
    page.wait("[...document.querySelectorAll('#list img')].every((image) => image.naturalWidth > 0)")
    assert page.value("document.querySelectorAll('#list img').length") == 13
    assert page.texts("nav a") == ["Gallery 15", "Failures 2", "Groups 12", "Settings"]


def test_arrows_home_and_end_move_and_enter_and_escape_open_and_close(few, view):
    page = view(few)
    focused = "document.activeElement.querySelector('small')?.textContent"
    columns = page.value("Math.round(document.querySelector('#list').clientWidth"
                         " / document.querySelector('#list li').getBoundingClientRect().width)")  # fmt: skip
    names = page.names
    page.key("ArrowRight")
    assert page.value(focused) == names[0]
    page.key("ArrowRight", "ArrowRight")
    assert page.value(focused) == names[2]
    page.key("ArrowDown", "ArrowLeft")
    assert page.value(focused) == names[1 + columns]
    page.key("ArrowUp")
    assert page.value(focused) == names[1]
    page.key("End")
    assert page.value(focused) == "top.png"
    page.key("ArrowRight", "Home")
    assert page.value(focused) == names[0]
    page.key("Enter")
    assert page.title == names[0]
    page.key("ArrowRight")
    assert page.title == names[1] and page.page.inner_text("#place") == "2 of 15"
    page.key("ArrowLeft", "ArrowLeft")
    assert page.title == names[0]
    page.key("End")
    assert page.title == "top.png"
    page.key("ArrowLeft", "ArrowLeft", "Escape")
    page.wait("!document.getElementById('detail').open")
    assert page.value(focused) == "failed/000.jpg"


def test_search_class_score_kept_share_and_status_choose_and_sorting_orders(few, view):
    page = view(few)
    page.key("/")
    page.page.keyboard.type("DOG 0")
    assert page.count == "6 of 15" and all("dog" in text.lower() for text in page.texts("#list li"))
    page.key("Escape")
    assert page.count == "15 of 15"
    page.key("Escape")
    page.page.fill("#class", "yacht")
    assert page.names == ["top.png"]
    page.page.click("#clear")
    assert page.count == "15 of 15"
    page.page.fill("#s0", "97")
    assert page.count == "4 of 15"
    page.page.fill("#s1", "98.5")
    assert sorted(page.names) == ["bird/000002.png", "cat/000003.png"]
    page.page.click("#clear")
    page.page.fill("#k1", "-10")
    assert page.names == ["top.png"]
    page.page.click("#clear")
    page.page.select_option("#status", label="failed")
    assert page.names == ["failed/000.jpg", "failed/001.jpg"]
    page.page.click("#clear")
    page.page.select_option("#sort", "score")
    assert page.names[0] == "top.png" and page.names[-2:] == ["failed/000.jpg", "failed/001.jpg"]
    page.page.click("#down")
    assert page.names[0] == "cat/000000.png" and page.names[-2:] == ["failed/000.jpg", "failed/001.jpg"]
    page.page.select_option("#sort", "kept")
    assert page.names[12] == "top.png"
    page.page.select_option("#sort", "class")
    assert page.texts("#list b")[0] == "yacht"


def test_c_shows_photos_in_place_of_overlays(few, view):
    page = view(few)
    first = "document.querySelector('#list img').src"
    before = page.value(first)
    page.key("c")
    after = page.value(first)
    assert before != after and after.endswith("-p.webp")
    page.page.click("#photo")
    assert page.value(first) == before


def test_an_image_shows_its_files_its_photo_and_its_numbers(few, view):
    page = view(few)
    page.page.locator("#list a", has_text="top.png").click()
    assert page.texts("figcaption") == ["yacht 50%, kept -25%", "yacht-1 25%, kept -25%"]
    facts = page.page.inner_text("#facts")
    assert "-0.5 of 2" in facts and "0.25" in facts and "yacht-1" in facts
    links = page.page.locator("#facts a")
    kinds = [(links.nth(at).inner_text(), links.nth(at).get_attribute("href")) for at in range(links.count())]
    assert kinds == [("overlay", "top.png.top1.png"), ("map", "top.png.top1.npy"),
                     ("overlay", "top.png.top2.png"), ("map", "top.png.top2.npy")]  # fmt: skip
    page.key("Escape")
    page.page.click("#list li:first-child a")
    links = page.page.locator("#facts a")
    assert links.first.get_attribute("href") == "../photos/bird/000002.png"
    page.wait("[...document.querySelectorAll('#stage img')].every((image) => image.naturalWidth === 64)")


def test_the_slider_lays_bare_the_photo_under_the_overlay(few, view):
    page = view(few)
    page.page.click("#list li:first-child a")
    page.wait("[...document.querySelectorAll('#stage img')].every((image) => image.naturalWidth > 0)")
    over = "getComputedStyle(document.querySelector('.over')).clipPath"
    assert page.value(over) == "inset(0px 0px 0px 0%)"
    page.page.focus("#cut")
    page.key("End")
    assert page.value(over) == "inset(0px 0px 0px 100%)"
    page.key("Escape")
    page.page.click("#list li:first-child a")
    page.page.locator("#cut").press("Home")
    page.page.focus("#next")
    page.key("c")
    assert page.value(over) == "inset(0px 0px 0px 100%)"
    page.key("c")
    assert page.value(over) == "inset(0px 0px 0px 0%)"
    box = page.page.locator(".frame").bounding_box()
    page.page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert abs(float(page.value("document.getElementById('cut').value")) - 25) <= 1
    image = screenshot(page)
    left, right = (image.getpixel((int(box["x"] + box["width"] * share), int(box["y"] + box["height"] / 2)))
                   for share in (0.1, 0.9))  # fmt: skip
    assert near(left, photo_colour(2)) and near(right, photo_colour(2)[::-1])


def screenshot(viewer):
    return Image.open(io.BytesIO(viewer.page.screenshot())).convert("RGB")


def near(one, other):
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < 8


def test_all_maps_of_an_image_share_one_zoom(few, view):
    page = view(few)
    page.page.locator("#list a", has_text="top.png").click()
    moved = "[...document.querySelectorAll('.move')].map((node) => getComputedStyle(node).transform)"
    assert len(page.value(moved)) == 2 and page.page.inner_text("#zoom") == "100%"
    box = page.page.locator(".frame >> nth=0").bounding_box()
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.page.mouse.wheel(0, -400)
    page.wait("document.getElementById('zoom').textContent !== '100%'")
    one, other = page.value(moved)
    assert one == other and one != "matrix(1, 0, 0, 1, 0, 0)"
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] / 2 + 30, box["y"] + box["height"] / 2 + 10)
    page.page.mouse.up()
    dragged = page.value(moved)
    assert dragged[0] == dragged[1] != one
    page.key("+", "-", "0")
    assert page.page.inner_text("#zoom") == "100%"


def test_failures_are_a_page_with_kind_and_message(few, view):
    page = view(few)
    page.page.click("nav a[data-view=failures]")
    assert page.texts("#list b") == ["failed/000.jpg", "failed/001.jpg"]
    assert page.texts("#list span") == ["decode", "timeout"]
    assert page.texts("#list small") == ["Image 0 is damaged.", "Image 1 is damaged."]
    page.page.click("#list li:first-child a")
    assert "Image 0 is damaged." in page.page.inner_text("#facts")


def test_groups_have_counts_and_mean_maps_and_lead_to_their_images(few, view):
    page = view(few)
    page.page.click("nav a[data-view=groups]")
    page.wait("[...document.querySelectorAll('#list img')].every((image) => image.naturalWidth === 256)")
    assert len(page.texts("#list li")) == 12
    page.page.locator("#list a", has_text="cat → ship").click()
    page.wait("document.getElementById('count').textContent.includes('taken for')")
    assert page.count == "1 of 15: cat taken for ship" and page.names == ["cat/000003.png"]
    page.key("Escape")
    page.wait("location.hash === '#groups'")


def test_the_address_leads_to_a_view_or_an_image(few, view):
    assert view(few, fragment="#image=cat%2F000003.png").title == "cat/000003.png"
    assert view(few, fragment="#failures").count == "2 of 15"
    page = view(few, fragment="#about")
    assert "alpha-beta beta=0.0" in page.page.inner_text("#about pre")
    assert "epsilon" in page.page.inner_text("#about") and page.page.is_hidden("#list")
    assert view(few, fragment="#image=%zz").count == "15 of 15"


def test_the_help_names_the_keys(few, view):
    page = view(few)
    page.key("?")
    assert page.page.is_visible("#help") and "arrows, Home, End" in page.page.inner_text("#help")
    page.key("Escape")
    assert page.page.is_hidden("#help")


def test_dark_and_light_follow_the_system_until_one_is_chosen(few, view):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (view(few, scheme=scheme) for scheme in THEMES)
    colours = light.value(ground), dark.value(ground)
    assert colours[0] != colours[1]
    light.key("t")
    assert light.value(ground) == colours[1]
    light.page.reload()
    light.page.wait_for_selector("html[data-ready]", state="attached")
    assert light.value(ground) == colours[1]
    light.page.click("#theme")
    assert light.value(ground) == colours[0]


def test_the_first_page_is_readable_without_script(few, many, view):
    page = view(few, script=False)
    assert len(page.texts("#list li")) == 13 and "bird/000002.png" in page.names
    text = page.page.inner_text("body")
    for part in ("Image 0 is damaged.", "Predicted", "alpha-beta beta=0.0", "98%, kept 2%"):
        assert part in text, part
    sizes = page.page.locator("#list img")
    assert sizes.count() == 13
    page = view(many, script=False)
    assert len(page.texts("#list li")) == 24 and "The first 24 of 10000 images" in page.page.inner_text("body")


def test_ten_thousand_images_are_few_nodes_and_a_small_page_that_shows_a_picture_at_once(many, view):
    assert many.stat().st_size < 3_000_000
    page = view(many)
    assert page.count == "10,000 of 10,000" and page.nodes < 500
    page.wait("[...document.querySelectorAll('#list img')].some((image) => image.naturalWidth > 0)")
    page.key("End")
    assert page.value("document.activeElement.querySelector('small').textContent") == "folder-6/009995.png"
    assert page.nodes < 500
    page.key("Home")
    assert page.value("document.activeElement.querySelector('small').textContent") == "folder-0/000000.png"
    page.value("window.scrollTo(0, document.body.scrollHeight / 2)")
    page.wait("document.querySelector('#list li').getBoundingClientRect().bottom > -500")
    assert page.nodes < 500 and page.value("document.querySelectorAll('#list li').length") > 20
    page.key("/")
    page.page.keyboard.type("folder-3/00999")
    assert page.names == ["folder-3/009992.png", "folder-3/009999.png"]


@pytest.mark.parametrize("size", [(390, 844), (1440, 2560), (3840, 2160)])
def test_nodes_are_few_on_any_screen(many, view, size):
    page = view(many, size=size)
    assert page.nodes < 500
    assert page.value("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_no_fault(few, view, theme):
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    script = resources.files(axe).joinpath("axe.min.js").read_text(encoding="utf-8")
    page = view(few, scheme=theme)
    page.value(script)
    steps = {
        "gallery": [], "failures": ["nav a[data-view=failures]"], "groups": ["nav a[data-view=groups]"],
        "settings": ["nav a[data-view=about]"], "image": ["nav a[data-view=gallery]", "#list li:last-child a"],
    }  # fmt: skip
    for name, clicks in steps.items():
        for selector in clicks:
            page.page.click(selector)
        found = page.value("axe.run({resultTypes: ['violations']}).then((result) => result.violations)")
        assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found] == [], name
    page.key("Escape", "?")
    assert page.value("axe.run().then((result) => result.violations.map((fault) => fault.id))") == []


def test_hostile_names_and_labels_stay_text_in_the_browser(tmp_path, view):
    page = view(made(hostile(tmp_path)))
    page.wait("[...document.querySelectorAll('#list img')].every((image) => image.naturalWidth > 0)")
    assert page.value("document.querySelectorAll('#list img').length") == len(HOSTILE)
    assert page.value("document.querySelectorAll('script').length") == 2
    assert "<script>alert(1)</script>.png" in page.names and "<b>bold</b>" in page.texts("#list b")
    assert len(LABELS) == 5
    page.key("Home", "Enter")
    for _ in range(len(HOSTILE)):
        if page.value("document.querySelectorAll('.over').length"):
            page.wait("[...document.querySelectorAll('#stage img')].every((image) => image.naturalWidth === 64)")
        links = page.value("[...document.querySelectorAll('#facts a')].map((node) => node.protocol)")
        assert set(links) <= {"file:"}
        page.key("ArrowRight")
    assert page.value("document.querySelectorAll('#facts img, #facts script, #facts b, #facts i').length") == 0


def test_injected_script_is_stopped_by_the_policy(few, browser):
    with Viewer(browser, few) as page:
        page.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.harm = 1\">')")
        page.value("document.body.append(Object.assign(document.createElement('script'), {textContent: 'harm = 2'}))")
        page.value("document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:9/x'}))")
        page.page.wait_for_timeout(200)
        assert page.value("window.harm") is None
        assert sum("Content Security Policy" in error for error in page.errors) >= 3


def test_a_copy_without_its_photos_and_results_shows_the_small_pictures(tmp_path, view):
    place = tmp_path / "here"
    made(Results(place / "out", place / "photos").add_many(3).output)
    (tmp_path / "sent").mkdir()
    for name in ("index.html", "lrp-report"):
        (place / "out" / name).rename(tmp_path / "sent" / name)
    page = view(tmp_path / "sent" / "index.html")
    page.wait("[...document.querySelectorAll('#list img')].every((image) => image.naturalWidth > 0)")
    page.key("Home", "Enter")
    page.wait("[...document.querySelectorAll('#stage img')].every((image) => image.naturalWidth === 64"
              " && image.src.endsWith('webp'))")  # fmt: skip
    page.errors.clear()  # of the files that are not there


def test_a_single_file_shows_everything_alone(tmp_path, view):
    page = made(Results(tmp_path / "out", tmp_path / "photos").add_many(3).output, "--single-file")
    (tmp_path / "sent").mkdir()
    alone = page.rename(tmp_path / "sent" / "report.html")
    page = view(alone)
    page.wait("document.querySelectorAll('#list img').length === 3")
    page.wait("[...document.querySelectorAll('#list img')].every((image) => image.naturalWidth > 0)")
    page.key("Home", "Enter")
    page.wait("document.querySelectorAll('#stage img').length === 2")
    page.wait("[...document.querySelectorAll('#stage img')].every((image) => image.naturalWidth > 0)")
    assert page.texts("#facts a") == []


def test_runs_are_shown_side_by_side_under_their_names(tmp_path, view):
    for name in ("one", "two"):
        Results(tmp_path / "all" / name, tmp_path / "photos").add_many(2)
    page = view(made(tmp_path / "all"))
    assert page.texts("#list span")[0].endswith(", 2 maps")
    page.key("Home", "Enter")
    assert [text.partition(":")[0] for text in page.texts("figcaption")] == ["one", "two"]
    page.wait("[...document.querySelectorAll('#stage img')].every((image) => image.naturalWidth === 64)")
    links = page.value("[...document.querySelectorAll('#facts a')].map((node) => node.getAttribute('href'))")
    assert links[1:] == ["one/000000.png.png", "one/000000.png.npy", "two/000000.png.png", "two/000000.png.npy"]


def test_pictures_of_the_model_s_grid_lie_on_their_part_of_the_photo(tmp_path, view):
    results = Results(tmp_path / "out", tmp_path / "photos", overlay_size=None)
    photo(tmp_path / "photos" / "a.png", 0)
    results.add("a.png")
    page = view(made(results.output))
    page.key("Home", "Enter")
    # The grid covers the square in the middle of 64 x 48: pixels 8 to 56.
    style = page.value("(({left, top, width, height}) => ({left, top, width, height}))"
                       "(document.querySelector('#stage img').style)")  # fmt: skip
    assert {name: round(float(value.rstrip("%")), 2) for name, value in style.items()} == {
        "left": -16.67, "top": 0, "width": 133.33, "height": 100,
    }  # fmt: skip
    assert page.value("document.querySelector('.frame').style.aspectRatio").startswith("1")


def test_an_empty_page_says_so(tmp_path, view):
    page = view(made(Results(tmp_path / "out").output))
    assert page.count == "0 of 0" and page.nodes < 200
    page.key("End", "ArrowDown", "Enter", "c")
