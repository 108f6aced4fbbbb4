"""How long does the page of `saliencykit app` take for a move of its slider?

    python -m benchmarks.slider                # MobileNetV2, 40 moves: a minute
    python -m benchmarks.slider --threads 1

For moves to budgets that were not shown before: what Python does (the mask of another area, two
queries in one batch, three images as JPEG, the HTML), and what a person waits, from the slider's
event in headless Chromium to the frame in which all images are decoded. CPU times tell on a busy
machine, too; the last one is that of Python and all of Chromium's processes. The masker does not
matter: a move explains nothing again. It needs `pip install '.[app]' playwright psutil`, Chromium
at /usr/bin/chromium, and the data folder.
"""

import argparse
import os
import platform
import statistics
import time
from typing import Any

import torch

from benchmarks.data import mobilenet_v2
from saliencykit.app.exploration import Choice, explore_image
from saliencykit.app.page_actions import Dial, show
from saliencykit.app.page_server import launch_app
from saliencykit.app.workbench import Workbench
from saliencykit.demo import demo_image

NAME = "mobilenet_v2"

_MOVE = """
percent => new Promise(resolve => {
  const view = document.querySelector("#sk-view");
  const slider = document.querySelector("#sk-budget input[type=range]");
  const begin = performance.now();
  const watch = new MutationObserver(() => {
    if (!view.textContent.includes(`Region, ${percent}%`)) return;
    watch.disconnect();
    Promise.all([...view.querySelectorAll("img")].map(image => image.decode()))
      .then(() => requestAnimationFrame(() => resolve(performance.now() - begin)));
  });
  watch.observe(view, {childList: true, subtree: true, characterData: true});
  slider.value = percent;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
})
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    percents = (5 + torch.randperm(85, generator=generator)[: arguments.moves]).tolist()
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{arguments.threads} threads, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print("\n| milliseconds | median | 90 % | longest |\n|---|---|---|---|")
    clock, cpu = in_python(percents)
    report("Python", clock)
    report("Python, CPU time", cpu)
    clock, cpu = in_chromium(percents)
    report("from the event to the images in Chromium", clock)
    report("the same, CPU time of all processes", cpu)


def in_python(percents: list[int]) -> tuple[list[float], list[float]]:
    """Milliseconds of each move, on the clock and of the CPU."""
    explored = explore_image(Workbench({NAME: mobilenet_v2()}), demo_image(), Choice(NAME))
    show(explored, None, Dial(50.5))
    clock, cpu = [], []
    for percent in percents:
        begin, spent = time.perf_counter(), time.process_time()
        show(explored, None, Dial(percent))
        clock.append(1000 * (time.perf_counter() - begin))
        cpu.append(1000 * (time.process_time() - spent))
    return clock, cpu


def in_chromium(percents: list[int]) -> tuple[list[float], list[float]]:
    """Milliseconds of each move, as a person waits and of the CPU."""
    from playwright.sync_api import sync_playwright

    served = launch_app({NAME: mobilenet_v2()}, block=False)
    with sync_playwright() as playwright:
        options: dict[str, Any] = {"executable_path": "/usr/bin/chromium"}
        browser = playwright.chromium.launch(args=["--no-sandbox", "--disable-gpu"], **options)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(served.local_url)
        page.locator("#sk-view img").nth(3).wait_for(timeout=300_000)
        page.evaluate(_MOVE, 4)
        clock, cpu = [], []
        for percent in percents:
            spent = cpu_seconds()
            clock.append(page.evaluate(_MOVE, percent))
            cpu.append(1000 * (cpu_seconds() - spent))
            page.wait_for_timeout(100)
        browser.close()
    served.close()
    return clock, cpu


def cpu_seconds() -> float:
    """Of this process and all that it started."""
    import psutil

    own = psutil.Process()
    times = [each.cpu_times() for each in [own, *own.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


def report(name: str, milliseconds: list[float]) -> None:
    """One row of the table: median, 90 % and the longest."""
    tenth = statistics.quantiles(milliseconds, n=10)[-1]
    print(
        f"| {name} | {statistics.median(milliseconds):.0f} | {tenth:.0f} "
        f"| {max(milliseconds):.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
