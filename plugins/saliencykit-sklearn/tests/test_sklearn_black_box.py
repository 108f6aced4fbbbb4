"""The black box: classifiers over pixels, over images and over features, and what it refuses."""

import numpy as np
import pytest
import torch
from PIL import Image
from saliencykit_sklearn.sklearn_black_box import SklearnBlackBox
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from saliencykit import FunctionBlackBox, GradientError, InputError, explain
from saliencykit.testing import check_black_box
from saliencykit.testing.black_boxes import PlantedEvidence, iou

SIDE = 8
IMAGES = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def pixels():
    """Rows of pixels, channels last, of three classes: the mean color."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = random.random((120, SIDE, SIDE, 3))
    images[np.arange(120), :, :, labels] += 0.3
    return images.reshape(120, -1), np.array(["red", "green", "blue"])[labels]


ESTIMATORS = {
    "logistic": lambda: LogisticRegression(max_iter=300),
    "pipeline": lambda: make_pipeline(StandardScaler(), PCA(20), SVC()),
    "forest": lambda: RandomForestClassifier(20, random_state=0),
    "neighbors": lambda: KNeighborsClassifier(),
    "ridge": lambda: RidgeClassifier(),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_estimators_own_answers(name, pixels):
    estimator = ESTIMATORS[name]().fit(*pixels)
    black_box = SklearnBlackBox(estimator)
    rows = IMAGES.permute(0, 2, 3, 1).reshape(5, -1).double().numpy()
    if hasattr(estimator, "predict_proba"):
        assert np.allclose(black_box(IMAGES).softmax(1), estimator.predict_proba(rows), atol=1e-5)
    else:
        assert np.allclose(black_box(IMAGES), estimator.decision_function(rows), atol=1e-4)
    assert black_box.class_names == ("blue", "green", "red")
    assert black_box.input_size == (SIDE, SIDE)
    check_black_box(black_box)


def test_the_map_of_a_function_with_as_many_queries(pixels):
    estimator = LogisticRegression(max_iter=300).fit(*pixels)
    queried = []

    def function(images):
        queried.append(len(images))
        return estimator.predict_proba(images.reshape(len(images), -1))

    one = explain(SklearnBlackBox(estimator), IMAGES[:1], 1, masker="rise:samples=100")
    other = explain(FunctionBlackBox(function), IMAGES[:1], 1, masker="rise:samples=100")
    assert torch.allclose(one.mask, other.mask, atol=1e-4)
    # one image twice, the label, the masks; what is kept, dropped, and nothing of the image
    assert sum(queried) == 2 + 1 + 100 + 3


def test_two_classes_by_one_number(pixels):
    labels = (pixels[1] == "red").astype(int)
    estimator = RidgeClassifier().fit(pixels[0], labels)
    black_box = SklearnBlackBox(estimator)
    assert black_box.num_classes == 2
    wanted = estimator.decision_function(IMAGES.permute(0, 2, 3, 1).reshape(5, -1).numpy())
    assert np.allclose(black_box(IMAGES)[:, 1] - black_box(IMAGES)[:, 0], wanted, atol=1e-5)
    assert black_box(IMAGES[:1]).shape == (1, 2)


def test_channels_first(pixels):
    rows = pixels[0].reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2).reshape(len(pixels[0]), -1)
    first = SklearnBlackBox(KNeighborsClassifier().fit(rows, pixels[1]), layout="NCHW")
    last = SklearnBlackBox(KNeighborsClassifier().fit(*pixels))
    assert torch.equal(first(IMAGES), last(IMAGES))


def test_images_as_they_are(pixels):
    flatten = FunctionTransformer(lambda images: images.reshape(len(images), -1))
    images = pixels[0].reshape(-1, SIDE, SIDE, 3)
    estimator = make_pipeline(flatten, LogisticRegression(max_iter=300)).fit(images, pixels[1])
    black_box = SklearnBlackBox(estimator, flatten=False, size=SIDE)
    plain = SklearnBlackBox(LogisticRegression(max_iter=300).fit(*pixels))
    assert torch.allclose(black_box(IMAGES), plain(IMAGES), atol=1e-5)
    check_black_box(black_box)


def test_features(pixels):
    def colors(images):
        assert images.shape[1:] == (SIDE, SIDE, 3)
        return images.mean((1, 2))

    estimator = LogisticRegression().fit(colors(pixels[0].reshape(-1, SIDE, SIDE, 3)), pixels[1])
    black_box = SklearnBlackBox(estimator, features=colors, size=SIDE)
    assert np.allclose(
        black_box(IMAGES).softmax(1),
        estimator.predict_proba(IMAGES.mean((2, 3)).numpy()),
        atol=1e-5,
    )
    assert "features=test_features.<locals>.colors" in repr(black_box)
    check_black_box(black_box)


def test_planted_evidence_is_found():
    """A classifier over features that only one place of the image decides: the mask is there."""
    planted = PlantedEvidence()
    generator = torch.Generator().manual_seed(0)
    images, labels = planted.examples(200, generator=generator)

    def matches(photos):
        return planted(torch.from_numpy(photos).permute(0, 3, 1, 2)).numpy()

    estimator = LogisticRegression().fit(
        matches(images.permute(0, 2, 3, 1).numpy()), labels.numpy()
    )
    black_box = SklearnBlackBox(estimator, features=matches, size=16)
    answer = explain(black_box, images[:4], labels[:4], masker="occlusion")
    where = answer.mask >= 0.5 * answer.mask.amax((1, 2, 3), keepdim=True)
    assert float(iou(where.float(), planted.evidence(images[:4], labels[:4])).mean()) > 0.2


def test_the_digits_of_scikit_learn():
    digits = load_digits()
    estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(
        digits.data[:1000], digits.target[:1000]
    )
    black_box = SklearnBlackBox(estimator, max_pixel_value=16)
    images = torch.from_numpy(digits.images[1000:1003]).float()[:, None] / 16
    assert (
        black_box(images).argmax(1).tolist() == estimator.predict(digits.data[1000:1003]).tolist()
    )
    assert black_box.class_names[3] == "3"
    answer = explain(black_box, images, masker="rise:samples=200")
    assert answer.mask.shape == (3, 1, 8, 8)
    image = Image.fromarray((digits.images[1000] * 15).astype("uint8"))
    assert explain(black_box, image, "3", masker="rise:samples=50").labels.tolist() == [3]


def test_maskers_that_need_gradients_say_so(pixels):
    with pytest.raises(GradientError, match="SklearnBlackBox is query-only"):
        explain(LogisticRegression(max_iter=300).fit(*pixels), IMAGES[:1], 0, masker="iterative")


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (LogisticRegression(), "LogisticRegression is not fitted yet: call its fit first"),
        (Ridge(), "Ridge is not a classifier"),
        (make_pipeline(StandardScaler(), SVC()), "Pipeline is not fitted yet"),
    ],
)
def test_estimators_that_cannot_answer(estimator, words):
    with pytest.raises(InputError, match=words):
        SklearnBlackBox(estimator)


def test_bad_options(pixels):
    estimator = LogisticRegression(max_iter=300).fit(*pixels)
    for options, words in [
        (
            {"size": 9},
            r"takes 192 features, and images of 9 x 9 have 81 with 1 channel or 243 with 3 "
            r"channels",
        ),
        ({"channels": 1}, "192 features, which is not a square image"),
        ({"method": "predict"}, "method='predict'.*'predict_proba'"),
        ({"max_pixel_value": 0}, "max_pixel_value must be the value"),
        ({"max_batch_size": 0}, "max_batch_size=0.*>= 1"),
        ({"features": 3}, "features must be a function"),
        ({"class_names": ["a"]}, "has 3 classes, and 1 class_names"),
        ({"layout": "HWC"}, "takes 'NCHW' or"),
    ]:
        with pytest.raises(InputError, match=words):
            SklearnBlackBox(estimator, **options)
    assert SklearnBlackBox(estimator, size=(4, 16)).input_size == (4, 16)
    assert SklearnBlackBox(estimator, method="decision_function")(IMAGES).min() < 0
    with pytest.raises(InputError, match="RidgeClassifier has no predict_proba"):
        SklearnBlackBox(RidgeClassifier().fit(*pixels), method="predict_proba")


def test_answers_of_another_kind(pixels):
    one_against_one = SVC(decision_function_shape="ovo").fit(
        np.tile(pixels[0], (2, 1)), np.arange(240) % 4
    )
    with pytest.raises(
        InputError,
        match=r"returned 6 numbers for 4 classes \(an SVC needs decision_function_shape='ovr'\)",
    ):
        SklearnBlackBox(one_against_one)(IMAGES)
    estimator = LogisticRegression(max_iter=300).fit(*pixels)
    with pytest.raises(
        InputError,
        match=r"LogisticRegression\.predict_proba failed on an array \(5, 4\): ValueError: X has 4",
    ):
        SklearnBlackBox(estimator, features=lambda images: np.zeros((len(images), 4)), size=SIDE)(
            IMAGES
        )
    with pytest.raises(InputError, match=r"returned \(3,\) for 5 images"):
        SklearnBlackBox(estimator, features=lambda images: np.zeros(3), size=SIDE)(IMAGES)
    with pytest.raises(InputError, match=r"failed on images \(5, 8, 8, 3\): ZeroDivisionError"):
        SklearnBlackBox(estimator, features=lambda images: 1 / 0, size=SIDE)(IMAGES)
