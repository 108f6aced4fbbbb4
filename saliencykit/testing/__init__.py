"""For tests, ours and those of plugin authors: boxes whose right answer is known, contract suites, hypothesis strategies.

`boxes` and `contracts` need nothing more than the package; `strategies` needs hypothesis (`pip install 'saliencykit[testing]'`).
"""
