import pytest

from wbctool.adaptation import published_cells
from wbctool.adaptation.labels_file import read_labels
from wbctool.adaptation.named_cells import merge_labels
from wbctool.adaptation.published_cells import read_published_cells
from wbctool.errors import FieldUnreadable
from wbctool.paths import OutputPaths


def test_field_that_cannot_be_decoded_is_left_out_with_a_note(run, label_all, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    path = label_all(run.out)
    named, _ = merge_labels({path: read_labels(path)})
    decode, bad = published_cells.decode_rgb, (run.root / "s2" / "f1.png").read_bytes()

    def decode_others(content: bytes, max_megapixels: float):
        if content == bad:
            raise FieldUnreadable("not by this decoder")
        return decode(content, max_megapixels)

    monkeypatch.setattr(published_cells, "decode_rgb", decode_others)
    found = read_published_cells(OutputPaths(run.out), named, 1.25, lambda items, *_: items)
    assert len(found.cells) == 13
    assert found.notes == ("2 labeled cells left out, because their fields cannot be decoded: s2/f1.png",)
