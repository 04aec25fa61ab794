"""``python -m journal``: a file is checked by itself, and against a head that was kept elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from journal import Journal
from journal.__main__ import main


async def test_a_file_is_checked_and_held_against_a_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "journal.db"
    assert main([str(file)]) == 2
    assert "does not exist" in capsys.readouterr().err
    journal = await Journal.open(file)
    head = journal.head()
    await journal.close()
    assert main([str(file)]) == 0
    assert f"head {head.batch}:{head.hash_hex}" in capsys.readouterr().out
    assert main([str(file), "--head", f"{head.batch}:{head.hash_hex}"]) == 0
    assert main([str(file), "--head", f"{head.batch + 1}:{head.hash_hex}"]) == 1
    assert "was seen before" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([str(file), "--head", "soup"])
    assert ended.value.code == 2
