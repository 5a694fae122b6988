from keelway_runtime.log import user_traceback


def _error_of(source):
    try:
        exec(compile(source, "score.py", "exec"), {})
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


def test_a_script_that_does_not_parse_has_a_traceback_that_is_found_as_any_other():
    error = _error_of("def run(:\n").with_traceback(None)  # all frames of a real one are the import system's

    lines = user_traceback(error).splitlines()

    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == '  File "score.py", line 1'
    assert lines[-1].startswith("SyntaxError: ")


def test_a_traceback_has_one_header():
    assert user_traceback(_error_of("1 / 0")).count("Traceback") == 1
