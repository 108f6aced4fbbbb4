from benchmarks.rows import append, read_rows


def test_half_a_line_of_a_killed_run_is_done_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    append(path, {"photo": "a", "method": "m", "x": 1})
    append(path, {"photo": "b", "method": "m", "x": 2})
    path.write_text(path.read_text() + '{"photo": "c", "meth')
    assert [row["photo"] for row in read_rows(path)] == ["a", "b"]
    append(path, {"photo": "c", "method": "m", "x": 3})
    append(path, {"photo": "a", "method": "m", "x": 4})  # the first one counts
    assert [(row["photo"], row["x"]) for row in read_rows(path)] == [("a", 1), ("b", 2), ("c", 3)]
