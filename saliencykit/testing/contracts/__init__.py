"""Contract suites: everything that the library relies on, checked for one part in one line.

    def test_contract():
        check_masker(SuperpixelMasker(segments=16))

Each failure is a BrokenContractError (a ContractError, and an AssertionError for test runners): it
says what the contract is, what was expected, what came, for which input, and how to fix it.
"""
