from saliencykit.data.record import Record


def test_an_entry_knows_only_what_it_is_told():
    entry = Record("a", "a.png")
    assert (entry.label, entry.boxes, entry.reason) == (None, None, None)
