"""Whole-slide scans with fake stages: solid squares on a smear with glass, a thick part, and red cells."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
from datetime import UTC, datetime
from pathlib import Path

import cv2
import fakes
import numpy as np
import openslide
import pytest
import tifffile
from synthetic_scans import LEFT, RIGHT, UM_PER_PX, damage, detect, draw_smear, make_montage, read_fields, write_scan
from typer.testing import CliRunner

from wbctool.adaptation.candidates import read_candidates
from wbctool.adaptation.labels_file import LabelledCell, Purpose
from wbctool.adaptation.named_cells import NamedCell
from wbctool.adaptation.published_cells import read_published_cells
from wbctool.cli import app
from wbctool.cli.progress import NullProgress
from wbctool.cli.run import load_stages
from wbctool.errors import LabelledDataInvalid
from wbctool.export.geojson import slide_geojson
from wbctool.imaging.scan import Scan
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.pipeline.discovery import find_slides, is_unchanged
from wbctool.pipeline.executor import LocalExecutor
from wbctool.pipeline.run import StopRequest, run_folder
from wbctool.pipeline.run_slides import FieldImages
from wbctool.settings import load_settings
from wbctool.store.reader import read_published_slides
from wbctool.store.slide_record import find_slide_record
from wbctool.types.cells import Box

EXAMPLE = Path(__file__).parents[2] / "examples" / "slides" / "example-adult"


@pytest.fixture(scope="session")
def smear():
    return draw_smear()


@pytest.fixture
def scan_run(run, smear):
    """A run over one scan, ``ward/smear.svs``, and the folder ``s2``."""
    shutil.rmtree(run.root / "s10")
    write_scan(run.root / "ward" / "smear.svs", smear[0], UM_PER_PX, aperio=True, label=True)
    run.detect = lambda field: (fakes.detect if field.name.endswith(".png") else detect)(field)
    return run


def read_cells(run, slide="ward/smear"):
    with (run.folder / slide / "cells.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def summary(run, slide="ward/smear"):
    return json.loads((run.folder / slide / "slide.json").read_text())["scan"]


def test_every_cell_of_the_monolayer_is_found_once_where_it_is_in_level_0(scan_run, smear):
    assert scan_run(cells_per_scan="all") == 0
    rows = scan_run.rows()
    assert list(rows) == ["s2", "ward/smear"]
    cells = read_cells(scan_run)
    found = [(int(c["x"]), int(c["y"]), c["label"]) for c in cells]
    zones = {c["field"] for c in cells}
    assert len(set(found)) == len(found)
    assert set(found) <= smear[1]
    corners = sorted((int(z.split("-")[1][1:]), int(z.split("-")[2][1:])) for z in zones)
    x0, x1 = corners[0][0], max(x for x, _ in corners) + corners[-1][0] - sorted({x for x, _ in corners})[-2]
    assert {c for c in smear[1] if x0 + 16 <= c[0] < min(x1, RIGHT) - 40} <= set(found)
    assert [int(c["cell"]) for c in cells if c["field"] == cells[0]["field"]][:3] == [1, 2, 3]
    passed = summary(scan_run)["passed_over"]
    assert passed["empty glass"] > 0
    assert passed["crowded"] > 0
    assert summary(scan_run)["zones"] == int(rows["ward/smear"]["fields"]) + sum(passed.values())


def test_zones_are_taken_until_the_cells_are_enough(scan_run):
    scan_run(cells_per_scan=40)
    few = scan_run.rows()["ward/smear"]
    assert 40 <= int(few["counted"]) < 80
    in_run_json = json.loads((scan_run.folder / "run.json").read_text())["slides"][1]["scan"]
    assert in_run_json["zones_looked_at"] == int(few["fields"]) < in_run_json["zones"] - 5
    first = read_cells(scan_run)
    scan_run(cells_per_scan=80)
    assert read_cells(scan_run)[: len(first)] == first


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (3, 64)])
def test_same_bytes_for_any_workers_and_batch_size(scan_run, tmp_path, workers, batch_size):
    scan_run(cells_per_scan=60, workers=2)
    expected = scan_run.tree()
    shutil.rmtree(scan_run.out.parent)
    scan_run(cells_per_scan=60, workers=workers, batch_size=batch_size)
    assert scan_run.tree() == expected


def test_next_run_does_only_what_has_changed(scan_run, smear):
    scan_run(cells_per_scan=40)
    before = scan_run.tree()
    assert scan_run(cells_per_scan=40) == 0
    assert scan_run.looked == []
    assert scan_run.tree() == before
    scan_run(cells_per_scan=50)  # of scans alone
    assert "f1.png" not in scan_run.looked
    assert scan_run.looked
    scan_run(cells_per_scan=50, adult=True)  # words alone
    assert scan_run.looked == []
    darker = np.maximum(smear[0], 3) - 3
    write_scan(scan_run.root / "ward" / "smear.svs", darker, UM_PER_PX, aperio=True)
    scan_run(cells_per_scan=50, adult=True)
    assert any(name.startswith("zone-") for name in scan_run.looked)


def test_label_and_macro_are_never_read_and_in_no_output(scan_run, monkeypatch):
    path = scan_run.root / "ward" / "smear.svs"
    with openslide.OpenSlide(path) as slide:
        assert {"label", "macro"} <= set(slide.associated_images)
        assert "Jane Doe" in slide.properties["aperio.User"]
        label, macro = slide.associated_images["label"], slide.associated_images["macro"]
    read: list[str] = []
    real_getitem = openslide._AssociatedImageMap.__getitem__
    monkeypatch.setattr(
        openslide._AssociatedImageMap, "__getitem__", lambda s, key: read.append(key) or real_getitem(s, key)
    )
    assert scan_run(cells_per_scan=40) == 0
    assert read == []
    outputs = b"".join(scan_run.tree().values()) + (scan_run.folder / "run.json").read_bytes()
    assert b"Jane Doe" not in outputs
    assert label.tobytes()[:64] not in outputs
    assert macro.tobytes()[:64] not in outputs


class TestDamage:
    def test_truncated_scan_fails_by_name(self, scan_run):
        path = scan_run.root / "ward" / "smear.svs"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert scan_run() == 3
        row = scan_run.rows()["ward/smear"]
        assert [row[name] for name in ("status", "fields", "fields_failed", "cells")] == ["failed", "1", "1", "0"]
        (error,) = json.loads((scan_run.folder / "ward" / "smear" / "slide.json").read_text())["errors"]
        assert (error["field"], error["stage"]) == ("smear.svs", "read")
        assert "not a whole-slide scan" in error["cause"] or "damaged" in error["cause"]
        assert scan_run() == 3
        assert scan_run.looked == []  # the same file fails in the same way

    def test_hole_fails_the_zones_that_it_touches(self, scan_run, smear):
        path = write_scan(scan_run.root / "ward" / "smear.svs", smear[0], UM_PER_PX, "adobe_deflate", aperio=True)
        damage(path)
        assert scan_run(cells_per_scan="all", workers=2) == 3
        row = scan_run.rows()["ward/smear"]
        assert row["status"] == "partial"
        assert 1 <= int(row["fields_failed"]) <= 4
        errors = json.loads((scan_run.folder / "ward" / "smear" / "slide.json").read_text())["errors"]
        assert all(e["field"].startswith("zone-x") and "damaged here" in e["cause"] for e in errors)
        assert int(row["counted"]) > 50

    def test_scan_without_red_cells_fails_and_says_why(self, run):
        shutil.rmtree(run.root)
        write_scan(run.root / "glass.tif", np.full((1600, 1600, 3), 250, np.uint8), UM_PER_PX)
        run.detect = detect
        assert run() == 3
        (error,) = json.loads((run.folder / "glass" / "slide.json").read_text())["errors"]
        assert error["cause"] == "no zone of the scan shows red cells side by side: 25 empty glass"
        run.looked.clear()
        assert run() == 3
        assert run.looked == []

    def test_survey_that_the_machine_ended_is_made_again(self, scan_run):
        good = scan_run.detect

        def run_out_of_memory(field):
            raise RuntimeError("CUDA out of memory")

        scan_run.detect = run_out_of_memory
        assert scan_run() == 3
        (error,) = json.loads((scan_run.folder / "ward" / "smear" / "slide.json").read_text())["errors"]
        assert (error["stage"], error["cause"]) == ("survey", "RuntimeError: CUDA out of memory")
        scan_run.detect = good
        assert scan_run() == 0
        assert int(scan_run.rows()["ward/smear"]["counted"]) > 50


class TestScale:
    def run_with(self, run, smear, um_per_px):
        shutil.rmtree(run.root)
        write_scan(run.root / "a.tif", smear[0], um_per_px)
        run.detect = detect
        assert run(cells_per_scan=20) == 0
        return summary(run, "a")

    def test_is_measured_by_the_red_cells_if_the_file_does_not_tell(self, run, smear):
        scan = self.run_with(run, smear, None)
        assert scan["scale_source"] == "the size of the red cells"
        assert scan["um_per_px"] == pytest.approx(7.5 / 17, rel=0.05)

    def test_of_the_metadata_is_used(self, run, smear):
        scan = self.run_with(run, smear, UM_PER_PX)
        assert (scan["um_per_px"], scan["scale_source"]) == (UM_PER_PX, "the file's metadata")

    def test_impossible_one_of_the_metadata_is_not_used(self, run, smear):
        assert self.run_with(run, smear, 25400 / 72)["scale_source"] == "the size of the red cells"

    def test_of_slides_csv_wins(self, run, smear):
        shutil.rmtree(run.root)
        write_scan(run.root / "a.tif", smear[0], 0.25)
        (run.root / "slides.csv").write_text(f"slide,um_per_px\na,{UM_PER_PX}\n")
        run.detect = detect
        assert run(cells_per_scan=20) == 0
        assert (summary(run, "a")["um_per_px"], summary(run, "a")["scale_source"]) == (UM_PER_PX, "slides.csv")

    def test_level_is_the_coarsest_that_shows_the_cells(self, run, smear):
        """At 0.03 µm level 1 has 0.12."""
        large = cv2.resize(smear[0][400:1100, LEFT:1500], None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
        shutil.rmtree(run.root)
        write_scan(run.root / "a.tif", large, 0.12)
        (run.root / "slides.csv").write_text("slide,um_per_px\na,0.03\n")
        run.detect = detect
        run(cells_per_scan=3)
        assert summary(run, "a")["downsample"] == 4
        for cell in read_cells(run, "a"):
            x, y = int(cell["x"]) // 4 + LEFT, int(cell["y"]) // 4 + 400
            assert tuple(smear[0][y + 8, x + 8]) == fakes.COLORS[cell["label"]]


def test_max_megapixels_bounds_zones_and_not_the_scan(scan_run):
    shutil.rmtree(scan_run.root / "s2")
    assert scan_run(cells_per_scan=20) == 0
    n_zones = summary(scan_run)["zones"]
    assert scan_run(cells_per_scan=20, max_megapixels=0.1) == 0
    assert summary(scan_run)["zones"] > 2 * n_zones
    assert scan_run(cells_per_scan=20, max_megapixels=0.01) == 3


class TestDiscovery:
    @pytest.fixture
    def small(self):
        return np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8)

    def test_ids_are_paths_without_endings_and_collisions_get_a_tilde(self, tmp_path, small, draw):
        root = tmp_path / "root"
        for name in ("a/x.svs", "a/x.ndpi", "b.tif"):
            write_scan(root / name, small, 0.25)
        draw(root / "a" / "x" / "f.png", ["neutrophil"])
        draw(root / "a" / "f.png", ["neutrophil"])
        draw(root / "top.png", ["neutrophil"])
        slides = {slide.id: slide for slide in find_slides(root)}
        assert list(slides) == ["a", "a/x", "a/x~", "a/x~~", "b", "root"]
        assert [slides[id_].is_scan for id_ in slides] == [False, False, True, True, True, False]
        assert [slides[id_].fields[0].name for id_ in ("a/x~", "a/x~~", "b")] == ["x.ndpi", "x.svs", "b.tif"]
        assert [p.name for p in slides["a"].fields] == ["f.png"]
        (alone,) = find_slides(root / "b.tif")
        assert (alone.id, alone.is_scan) == ("b", True)

    def test_tiff_without_levels_stays_a_field(self, tmp_path, small):
        (tmp_path / "s").mkdir()
        tifffile.imwrite(tmp_path / "s" / "tiled.tif", small, tile=(256, 256), photometric="rgb")
        tifffile.imwrite(tmp_path / "s" / "plain.tif", small, photometric="rgb")
        (slide,) = find_slides(tmp_path)
        assert (slide.is_scan, len(slide.fields)) == (False, 2)

    def test_mirax_is_one_slide_with_its_folder(self, tmp_path):
        (tmp_path / "s" / "x" / "deep").mkdir(parents=True)
        for name in ("x.mrxs", "x/Slidedat.ini", "x/Data0000.dat", "x/deep/p.png"):
            (tmp_path / "s" / name).touch()
        (slide,) = find_slides(tmp_path)
        assert slide.id == "s/x"
        names = ["x.mrxs", "x/Data0000.dat", "x/Slidedat.ini", "x/deep/p.png"]
        assert [p.relative_to(slide.folder).as_posix() for p in slide.fields] == names
        assert is_unchanged(slide, tmp_path, follow_links=False)
        (tmp_path / "s" / "x" / "Data0001.dat").touch()
        assert not is_unchanged(slide, tmp_path, follow_links=False)

    def test_folder_of_dicom_is_one_slide(self, tmp_path, monkeypatch):
        (tmp_path / "case 1").mkdir()
        for name in ("2.dcm", "10.dcm", "other.dcm"):
            (tmp_path / "case 1" / name).touch()
        detect_format = staticmethod(lambda path: None if "other" in str(path) else "dicom")
        monkeypatch.setattr(openslide.OpenSlide, "detect_format", detect_format)
        notices = []
        (slide,) = find_slides(tmp_path, notify=notices.append)
        assert (slide.id, [p.name for p in slide.fields]) == ("case 1", ["2.dcm", "10.dcm"])
        assert is_unchanged(slide, tmp_path, follow_links=False)
        assert notices[0].startswith("not read: 1 other image (dcm), 'case 1/other.dcm'")

    @pytest.mark.usefixtures("without_openslide")
    def test_without_the_extra_pyramids_are_fields(self, tmp_path, small):
        write_scan(tmp_path / "s" / "x.tif", small, 0.25)
        (slide,) = find_slides(tmp_path)
        assert not slide.is_scan


def test_settle_waits_for_companions(tmp_path, run):
    shutil.rmtree(run.root)
    (run.root / "x").mkdir(parents=True)
    for name in ("x.mrxs", "x/Data0000.dat"):
        (run.root / name).touch()
        os.utime(run.root / name, (1, 1))
    os.utime(run.root, (1, 1))
    assert run(settle_s=3600) == 0
    assert run.rows()["x"]["status"] == "waiting"


def test_slide_that_is_a_scan_is_replaced_field_by_field_in_records(scan_run):
    scan_run(cells_per_scan=20)
    record = json.loads((scan_run.folder / "ward" / "smear" / "slide.json").read_text())
    assert [name for name, _ in record["scan"]["files"]] == ["smear.svs"]
    assert all(field["name"].startswith("zone-x") and len(field["sha256"]) == 64 for field in record["fields"])
    assert ["cells_per_scan", "20"] in record["provenance"]["settings"]
    other = json.loads((scan_run.folder / "s2" / "slide.json").read_text())
    assert "scan" not in other
    assert all(name != "cells_per_scan" for name, _ in other["provenance"]["settings"])


def test_report_says_which_zones_were_passed_over(scan_run):
    scan_run(cells_per_scan=40)
    scan = summary(scan_run)
    page = (scan_run.folder / "ward" / "smear" / "report.html").read_text()
    assert f"The scan was divided into {scan['zones']} zones. The cells of {scan['zones_looked_at']} were" in page
    assert f"{scan['passed_over']['empty glass']} empty glass" in page
    assert "A pixel has 0.5 µm by the file&#39;s metadata" in page
    assert 'id="scan"' not in (scan_run.folder / "s2" / "report.html").read_text()
    zone = read_cells(scan_run)[0]["field"]
    x, y = (int(part[1:]) for part in zone.split("-")[1:])
    assert f'<svg viewBox="{x - 38} {max(0, y - 38)} ' in page


def test_geojson_is_one_file_of_the_scan_in_level_0(scan_run, smear):
    scan_run(cells_per_scan=40)
    published = next(s for s in read_published_slides(OutputPaths(scan_run.out)) if s.result.slide == "ward/smear")
    ((name, text),) = slide_geojson(published)
    assert name == "smear.svs"
    features = json.loads(text)["features"]
    assert len(features) == int(scan_run.rows()["ward/smear"]["cells"])
    for feature in features:
        x, y = feature["geometry"]["coordinates"][0][0]
        assert (x, y) in {cell[:2] for cell in smear[1]}
    assert len({feature["id"] for feature in features}) == len(features)


def test_progress_counts_the_scan_once_and_shows_its_zones(scan_run):
    shown: list[tuple[int, str]] = []

    class Shown(NullProgress):
        n_done = 0

        def field_done(self):
            self.n_done += 1

        def track(self, items, total, description):
            shown.append((total, description))
            return items

    scan_run.progress = Shown()
    scan_run(cells_per_scan=20)
    assert scan_run.progress.n_done == 3  # two fields and a scan
    zones = summary(scan_run)["zones"]
    assert (zones, "smear.svs: zones") in shown
    assert [name for _, name in shown] == [
        *("smear.svs: zones", "smear.svs: zones by their red cells", "smear.svs: good zones"),
    ]
    seconds = json.loads((scan_run.folder / "run.json").read_text())["seconds"]
    assert seconds["survey"] > 0


def test_pickled_scan_opens_its_file_when_it_first_reads(smear, tmp_path, monkeypatch):
    path = write_scan(tmp_path / "a.tif", smear[0], UM_PER_PX)
    scan = Scan(path)
    opened = []
    monkeypatch.setattr(
        openslide, "OpenSlide", lambda path, real=openslide.OpenSlide: opened.append(path) or real(path)
    )
    copy = pickle.loads(pickle.dumps(scan))
    assert opened == []
    assert (copy.width, copy.height, copy.levels, copy.um_per_px) == (3200, 1600, scan.levels, scan.um_per_px)
    for x in (900, 1000):
        region = Box(x, 300, 200, 100)
        assert np.array_equal(copy.read(region, copy.levels[0]), scan.read(region, scan.levels[0]))
    assert opened == [path]


@pytest.mark.slow
def test_shipped_models_find_the_same_cells_by_zones_as_by_one_look(tmp_path):
    rgb = make_montage(read_fields(EXAMPLE, 0.25), 6, 8)
    write_scan(tmp_path / "slides" / "scan.tif", rgb, 0.25, "lzw")
    (tmp_path / "slides" / "field").mkdir()
    cv2.imwrite(str(tmp_path / "slides" / "field" / "f.png"), rgb[..., ::-1])
    options = {"slides": tmp_path / "slides", "out": tmp_path / "out.csv", "cells_per_scan": "all", "device": "cpu"}
    settings = load_settings({**options, "readers": "compact", "super_resolve": "never"})
    assert (
        run_folder(settings, LocalExecutor(lambda: load_stages(settings)), ["run"], NullProgress(), StopRequest()) == 0
    )
    by_zones, by_one_look = (
        [(int(c["x"]) + int(c["width"]) / 2, int(c["y"]) + int(c["height"]) / 2) for c in csv.DictReader(lines)]
        for lines in ((tmp_path / "out" / name / "cells.csv").read_text().splitlines() for name in ("scan", "field"))
    )
    distances = np.linalg.norm(np.array(by_zones)[:, None] - np.array(by_one_look)[None], axis=2)
    assert len(by_one_look) >= 40
    assert (distances.min(axis=0) < 5).mean() > 0.95
    assert (distances.min(axis=1) < 5).mean() > 0.95
    assert len(by_zones) <= len(by_one_look) + 2


def test_cells_of_scans_are_not_offered_to_teach_and_do_not(scan_run):
    scan_run(cells_per_scan=40)
    output = OutputPaths(scan_run.out)
    images = FieldImages.find(output, None)
    candidates = read_candidates(output, images)
    n_cells = int(scan_run.rows()["ward/smear"]["cells"])
    assert {c.slide for c in candidates.cells} == {"s2"}
    assert (candidates.of_scans, candidates.unshown) == (n_cells, 0)
    assert n_cells > 0
    labelled = CliRunner().invoke(app, ["label", str(scan_run.out), "--cells", "3"])
    assert f"{n_cells} cells of whole-slide scans left out" in labelled.stderr
    assert "--slides" not in labelled.stderr
    row, record = read_cells(scan_run)[0], find_slide_record(output, "ward/smear")
    sha256 = next(zone.sha256 for zone in record.fields if zone.name == row["field"])
    zone = LabelledCell(
        slide="ward/smear", field=row["field"], field_sha256=sha256, cell=1,
        box=Box(*(int(row[side]) for side in ("x", "y", "width", "height"))), chosen=Purpose.TEACH,
        label=CellClass.MONOCYTE, time=datetime(2026, 11, 28, tzinfo=UTC), answer_shown=False,
    )  # fmt: skip
    with pytest.raises(LabelledDataInvalid, match="1 labeled cell left out, because they are of whole-slide scans"):
        read_published_cells(output, [NamedCell(zone, "AB", Path("labels.json"))], 1.25, lambda items, *_: items)
