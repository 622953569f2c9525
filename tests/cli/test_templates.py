"""`templates`: a line each."""

from tests.cli.commands import exit_code


def test_templates_are_listed_a_line_each(capsys):
    assert exit_code("templates") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16
    assert any(line.startswith("brats18_csc_dec ") and "Table 3" in line for line in lines)
