from datetime import UTC, datetime

import pytest

from wbctool.adaptation import published_cells
from wbctool.adaptation.candidates import CandidateCells, read_candidates
from wbctool.adaptation.labels_file import LabelledCell, Labels, Purpose
from wbctool.adaptation.published_cells import read_published_cells
from wbctool.errors import FieldUnreadable
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.pipeline.run_slides import FieldImages

TIME = datetime(2026, 11, 28, 10, tzinfo=UTC)


def label_all(candidates: CandidateCells) -> Labels:
    cells = tuple(
        LabelledCell(
            slide=c.slide, field=c.cell.field, field_sha256=c.field_sha256, cell=c.cell.index,
            box=c.cell.detection.box, chosen=Purpose.MEASURE, label=CellClass.BASOPHIL, time=TIME, answer_shown=False,
        )
        for c in candidates.cells
    )  # fmt: skip
    return Labels(
        reader="AB", created=TIME, tool_version="test", page="0" * 64, cells_asked=len(cells),
        results=candidates.cells_sha256, cells=cells,
    )  # fmt: skip


def test_field_that_cannot_be_decoded_is_left_out_with_a_note(run, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    layout = OutputPaths(run.out)
    labels = label_all(read_candidates(layout, FieldImages({})))
    decode, bad = published_cells.decode_rgb, (run.root / "s2" / "f1.png").read_bytes()

    def decode_others(content: bytes, max_megapixels: float):
        if content == bad:
            raise FieldUnreadable("not by this decoder")
        return decode(content, max_megapixels)

    monkeypatch.setattr(published_cells, "decode_rgb", decode_others)
    cells, notes = read_published_cells(layout, [labels], 1.25, lambda items, *_: items)
    assert len(cells) == 13
    assert notes == ["2 labeled cells left out, because their fields cannot be decoded: s2/f1.png"]
