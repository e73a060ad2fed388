from __future__ import annotations

from pathlib import Path

import pytest

from dev.programs.go_module import GoModule


@pytest.fixture
def module(tmp_path: Path) -> GoModule:
    (tmp_path / "go.mod").write_text("module here\n\ngo 1.25.0\n\nrequire example.org/it v1.2.3\n")
    (tmp_path / "go.sum").write_text("example.org/it v1.2.3 h1:a\n")
    return GoModule("It", tmp_path, "example.org/it", ("-trimpath",))


def test_the_version_is_the_one_that_is_pinned(module: GoModule) -> None:
    assert module.version == "1.2.3"
    with pytest.raises(RuntimeError, match="has no line like"):
        _ = GoModule("Other", module.directory, "example.org/i.", ()).version


def test_whatever_goes_into_a_build_makes_another_build(module: GoModule) -> None:
    built = [module.built, GoModule("It", module.directory, module.requires, ("-race",)).built]
    (module.directory / "go.sum").write_text("example.org/it v1.2.3 h1:b\n")
    built.append(module.built)

    assert len(set(built)) == 3
    assert all(each.name.startswith("it-1.2.3-") for each in built)
