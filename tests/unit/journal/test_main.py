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


async def test_archives_are_checked_alone_and_with_their_journal(path: Path, scribe, tmp_path: Path, capsys) -> None:
    journal = await Journal.open(path)
    for _ in range(4):
        await journal.commit(scribe.batch(("plan", "TimerFired")))
    archived = await journal.archive(scribe.time_us, tmp_path / "archives")
    assert archived is not None
    await journal.close()
    file = tmp_path / "archives" / archived.file
    assert main([str(path)]) == 0
    assert "2 batches, 1 records" in capsys.readouterr().out
    assert main([str(path), "--archives", str(file.parent)]) == 0
    assert "5 batches, 4 records" in capsys.readouterr().out
    assert main([str(file)]) == 0
    assert f"3 batches, 3 records, head 3:{archived.hash.hex()}" in capsys.readouterr().out
    assert main([str(file), "--head", f"3:{'0' * 64}"]) == 1
    assert "THE CHAIN IS BROKEN" in capsys.readouterr().out
    file.write_bytes(b"rubbish")
    assert main([str(path), "--archives", str(file.parent)]) == 1
    assert main([str(file)]) == 2
    file.unlink()
    assert main([str(file)]) == 2
