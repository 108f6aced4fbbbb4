"""One model shared by threads: hooks, modes and random numbers of a call are its own."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from saliencykit import explain
from saliencykit.networks.private_copy import private_copy
from saliencykit.networks.structure_cache import StructureCache

MASKERS = (
    "cam", "grad-cam", "score-cam", "ablation-cam", "excitation-backprop:layer=3",
    "guided-backprop", "deconvolution", "guided-grad-cam", "feedback:iterations=2",
)  # fmt: skip


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(16, 5),
    )  # fmt: skip


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def mask(model: nn.Module, image: Tensor, masker: str) -> Tensor:
    return explain(model, image[None], 1, masker=masker).mask


def training(model: nn.Module, steps: int) -> list[Tensor]:
    """The gradients of some steps in training mode, with dropout and without an optimizer."""
    torch.manual_seed(3)
    gradients = []
    for _ in range(steps):
        model.train()
        model.zero_grad()
        model(images(4)).square().sum().backward()
        gradients += [parameter.grad.clone() for parameter in model.parameters()]
    return gradients


@pytest.mark.parametrize("calls", [18, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_eight_threads_get_the_sequential_answers(calls: int) -> None:
    model, given = network().eval(), images(5)
    jobs = [(given[n % 5], MASKERS[n % len(MASKERS)]) for n in range(calls)]
    known = {(n % 5, n % len(MASKERS)): n for n in range(calls)}
    wanted = {key: mask(model, *jobs[n]) for key, n in known.items()}
    with ThreadPoolExecutor(8) as pool:
        masks = list(pool.map(lambda job: mask(model, *job), jobs))
    for n, got in enumerate(masks):
        assert torch.equal(got, wanted[n % 5, n % len(MASKERS)]), jobs[n][1]


@pytest.mark.parametrize("steps", [30, pytest.param(600, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_training_thread_keeps_its_gradients_and_statistics(steps: int) -> None:
    alone, beside = network(), network()
    wanted, got, failed = training(alone, steps), [], []
    thread = threading.Thread(target=lambda: got.extend(training(beside, steps)))
    thread.start()
    number = 0
    while thread.is_alive():
        try:
            mask(beside, images(1)[0], MASKERS[number % len(MASKERS)])
        except Exception as error:
            failed.append(error)
        number += 1
    thread.join()
    assert not failed
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    for key, value in alone.state_dict().items():
        assert torch.equal(beside.state_dict()[key], value), key


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_random_state_is_left_alone_while_another_thread_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, model = threading.Event(), network().eval()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    for owner, name in (
        (torch, "manual_seed"),
        (torch, "set_rng_state"),
        (torch.random, "set_rng_state"),
    ):
        monkeypatch.setattr(owner, name, lambda *_: pytest.fail("the random state was set"))
    try:
        for masker in MASKERS:
            mask(model, images(1)[0], masker)
    finally:
        stop.set()
        thread.join()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_predicting_thread_never_gets_a_graph() -> None:
    model, stop, graphs = network().eval(), threading.Event(), []

    def predict() -> None:
        while not stop.is_set():
            with torch.no_grad():
                graphs.append(model(images(1)).requires_grad)

    thread = threading.Thread(target=predict)
    thread.start()
    for masker in MASKERS:
        mask(model, images(1)[0], masker)
    stop.set()
    thread.join()
    assert graphs
    assert not any(graphs)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_asyncio_threads_get_the_sequential_answers() -> None:
    model, given = network().eval(), images(4)

    async def together() -> list[Tensor]:
        return await asyncio.gather(
            *(asyncio.to_thread(mask, model, image, "grad-cam") for image in given)
        )

    wanted = [mask(model, image, "grad-cam") for image in given]
    assert all(map(torch.equal, asyncio.run(together()), wanted))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_fastapi_service_gives_the_sequential_answers() -> None:
    """Plain functions run in the pool of threads of the service."""
    fastapi, httpx = pytest.importorskip("fastapi"), pytest.importorskip("httpx")
    model, given, service = network().eval(), images(3), fastapi.FastAPI()

    @service.get("/predict")
    def predict(image: int) -> list[float]:
        with torch.no_grad():
            return model(given[image, None])[0].tolist()  # type: ignore[no-any-return]

    @service.get("/explain")
    def explained(image: int, masker: str) -> list[float]:
        return mask(model, given[image], masker).flatten().tolist()

    queries = [("/explain", {"image": n % 3, "masker": name}) for n, name in enumerate(MASKERS)]
    queries += [("/predict", {"image": n % 3}) for n in range(len(MASKERS))]

    async def together() -> list[list[float]]:
        transport = httpx.ASGITransport(app=service)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            answers = [client.get(path, params=given) for path, given in queries]
            return [answer.json() for answer in await asyncio.gather(*answers)]

    wanted = [(predict if path == "/predict" else explained)(**given) for path, given in queries]
    assert asyncio.run(together()) == wanted


def test_a_copy_follows_lists_methods_closures_and_globals() -> None:
    model = network().eval()
    model.layers = [model[0], model[1]]
    model.forward = lambda x, head=model[8]: head(model[6](model[5](model[3](model[0](x)))))
    copied, seen = private_copy(model), []
    copied[0].register_forward_hook(lambda *_: seen.append(1))
    assert copied.layers[0] is copied[0]
    assert torch.equal(copied(images(1)), model(images(1)))
    assert len(seen) == 1
    assert not model[0]._forward_hooks


def test_what_is_known_of_a_model_ends_with_its_structure() -> None:
    model, cache = network(), StructureCache[int]()
    cache.of(model)["layer"] = 1
    model.train()
    model[8].weight.data += 1
    assert cache.of(model) == {"layer": 1}
    model[5].output_size = 2
    assert cache.of(model) == {}
