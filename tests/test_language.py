"""Language: messages, help texts and docstrings use the field's words, in American spelling."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What a reader from outside does not expect: a pattern, and what to write instead.
WORDS = {
    r"pictures?(?![-.\w/*])": "image",
    r"ask(s|ed|ing)?": "query, or say what is wanted",
    r"anew": "again",
    r"rooms?(?! for)": "package, module",
    r"doors?": "API, entry point",
    r"house": "the library's name",
    r"spools?": "reserve file",
    r"lessons?": "distillation",
    r"taps?": "feature map",
    r"judg(e|es|ed|ing)": "score, evaluate, validate",
    r"go(es)? on": "resume, continue",
    r"(?<!marginal )winning": "marginal winning probability",
    r"cutting": "thresholding",
    r"what stands": "say what fills the pixels",
    r"let (it )?go": "close, release",
    r"the box (itself|says|answers)": "the black box",
    r"knob": "slider, option",
}
BRITISH = re.compile(
    r"colour|\bcentre|normalis|optimis(?!t)|neighbour|\bgrey|behaviour|localis|randomis|summaris"
    r"|minimis|maximis|recognis|initialis|parametris|linearis|generalis|visualis|unlabelled"
)  # in lower case
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
NAMES = "attributionlocalisation"  # of other libraries


def sources(*folders):
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [path for path in paths if "tests" not in path.parts]


def spoken(path):
    """The texts of a module that a user may read: docstrings, messages and help texts, by line."""
    texts = []
    left = [(ast.parse(path.read_text(encoding="utf-8")), False)]
    while left:
        node, is_told = left.pop()
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_told:
            texts.append((node.lineno, node.value))
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            texts.append((node.body[0].value.lineno, node.body[0].value.value))
        is_told = is_told or isinstance(node, ast.Raise | ast.Call)
        left += [(child, is_told) for child in ast.iter_child_nodes(node)]
    return texts


def matches(pattern, paths):
    """Where a pattern is in files, outside of names of other libraries: path, line and match."""
    for path in paths:
        text = path.read_text(encoding="utf-8").lower().replace(NAMES, "")
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{path.relative_to(ROOT)}:{line}: {match.group()!r}"


def test_texts_use_the_words_of_the_field():
    words = [rf"\b(?:{word})\b" for word in WORDS]
    pattern = re.compile("|".join(words), re.IGNORECASE)
    assert not {
        f"{path.relative_to(ROOT)}:{line}: {match.group()!r}; write: {instead}"
        for path in sources("saliencykit", "plugins")
        for line, text in spoken(path)
        if " " in text
        for match in pattern.finditer(text)
        for word, instead in zip(words, WORDS.values(), strict=True)
        if re.match(word, text[match.start() :], re.IGNORECASE)
    }


def test_spelling_is_american():
    prose = [path for folder in ("docs", "plugins") for path in (ROOT / folder).rglob("*.md")]
    paths = [*sources("saliencykit", "plugins", "docs"), *prose]
    assert not [*matches(BRITISH, paths)]


def test_benchmarks_and_tests_use_the_words_too():
    forbidden = re.compile(rf"picture|(?<![a-z])ask(s|ed|ing)?\b|\bjudg|{BRITISH.pattern}")
    folders = ("benchmarks", "tests", "plugins")
    paths = {path for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert not [*matches(forbidden, sorted(paths - {Path(__file__)}))]
