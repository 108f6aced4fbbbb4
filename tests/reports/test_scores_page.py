import base64
import hashlib
import re
import shutil
import subprocess

import pytest
from PIL import Image

from saliencykit.core.metric import Metric, Sample
from saliencykit.evaluation.evaluate_maskers import evaluate
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.scores import Scores
from saliencykit.reports.report_files import write_report
from saliencykit.reports.scores_page import scores_page


class Curve(Metric):
    """How much of <everything> is there & more."""

    higher_is_better = True

    def score(self, black_box, sample, mask, *, explain, generator):
        flat = mask.flatten(1)
        return {"mean": flat.mean(1), "kept_0.1": flat.mean(1), "kept_0.5": flat.amax(1)}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    import torch

    from saliencykit.testing.black_boxes import PlantedEvidence

    black_box, folder = PlantedEvidence(), tmp_path_factory.mktemp("run")
    images, labels = black_box.examples(5, generator=torch.Generator().manual_seed(0))
    sample = Sample(images, labels, names=tuple(f"<{i}>.png" for i in range(5)))
    scores = evaluate(
        black_box,
        {"rise & <more>": "rise:samples=8"},
        {"curve": Curve()},
        sample,
        output_dir=folder,
        report_images=3,
    )
    return write_report(scores, folder / "report.html")


def test_the_page_is_well_formed_and_self_contained(page, addresses):
    text = page.read_text(encoding="utf-8")
    shown = addresses(text)
    assert len(shown) == 3 * (1 + 4 * 3), "three images, four methods, overlay and two sides"
    assert all(address.startswith("data:image/") for address in shown)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    # one script, which the page's policy names by its hash, so that no other one runs
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in text
    assert f"script-src 'sha256-{hashed}'" in text


def test_names_are_escaped_and_all_sections_are_there(page):
    text = page.read_text(encoding="utf-8")
    assert "<more>" not in text
    assert "rise &amp; &lt;more&gt;" in text
    assert "&lt;0&gt;.png" in text
    assert "How much of &lt;everything&gt; is there &amp; more." in text
    for heading in ("Scores", "Curves", "Images", "What the numbers mean", "Settings"):
        assert f"<h2>{heading}</h2>" in text
    assert "curve/<wbr>mean ↑" in text
    assert "higher is better" in text
    assert "What is missing" not in text


def test_missing_images_are_listed_with_the_reason():
    rows = [
        Row(sample="good.png", index=0, masker="m", scores={"area": 0.5}),
        Row(sample="bad.png", index=1, masker="m", failure="it is <damaged>"),
    ]
    scores = Scores(
        tuple(rows), {"maskers": {"m": "M()"}, "metrics": {"area": {"higher_is_better": False}}}
    )
    text = scores_page(scores)
    assert "bad.png, by m: it is &lt;damaged&gt;" in text
    assert "area ↓" in text
    assert '<span class="best">0.5</span>' in text
    assert "<h2>Images</h2>" not in text, "there is no directory"


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize(
    ("scheme", "paper"), [(0, (20, 23, 27)), (1, (255, 255, 255))], ids=["dark", "light"]
)
def test_chromium_renders_the_page(page, tmp_path, width, scheme, paper):
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if chromium is None:
        pytest.skip("no chromium")
    # a window is never as narrow as a phone, a frame is
    frame = page.with_name(f"frame-{width}.html")
    frame.write_text(
        f'<body style="margin:0"><iframe src="{page.name}" '
        f'style="width:{width}px;height:1500px;border:0"></iframe>'
    )
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    more = f"--hide-scrollbars --window-size={max(width, 600)},1500"
    own = [
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--blink-settings=preferredColorScheme={scheme}",
    ]
    shot = tmp_path / "shot.png"
    command = [
        chromium,
        *flags.split(),
        *more.split(),
        *own,
        f"--screenshot={shot}",
        frame.as_uri(),
    ]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    image = Image.open(shot).convert("RGB").crop((0, 0, width, 1500))
    assert image.getpixel((width - 3, 3)) == paper
    assert len(image.getcolors(1 << 22)) > 200, "photos and curves are there"
    edge = image.crop((width - 4, 0, width, 1500)).getcolors(1 << 16)
    assert max(edge)[0] > 0.99 * 4 * 1500, "nothing sticks out at the right"
