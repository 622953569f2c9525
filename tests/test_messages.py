import logging

from nnunetv2_gsp.messages import show_messages

LOG = logging.getLogger("nnunetv2_gsp.somewhere")


def test_what_goes_on_and_what_is_wrong_are_told_apart(capsys):
    with show_messages():
        LOG.info("step %d", 1)
        LOG.debug("detail")
        LOG.warning("careful")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("step 1\n", "careful\n")


def test_afterwards_the_log_is_as_before(capsys, monkeypatch):
    package = logging.getLogger("nnunetv2_gsp")
    monkeypatch.setattr(package, "level", logging.ERROR)
    before = package.level, package.propagate, list(package.handlers)
    with show_messages():
        pass
    assert (package.level, package.propagate, package.handlers) == before
    LOG.info("unheard")
    assert capsys.readouterr().out == ""
