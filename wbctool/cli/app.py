"""The commands and their options. What a command needs is imported when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import wbctool
from wbctool.cli.export_app import export_app
from wbctool.cli.guard import errors_as_exit_codes as _errors_as_exit_codes
from wbctool.settings import Device, Precision, SuperResolve

app = typer.Typer(
    help="White-cell differentials from folders of blood smear images. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="The trained models.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(export_app, name="export")
review_app = typer.Typer(help="What readers changed in the reports.", no_args_is_help=True)
app.add_typer(review_app, name="review")

ModelsDir = Annotated[
    Path | None, typer.Option("--models", metavar="DIR", help="Folder of models; those that come with wbctool if none.")
]


class SplitChoice(StrEnum):
    """Which labelled sources `evaluate` uses."""

    HELD_BACK = "held-back"
    VALIDATION = "validation"
    ALL = "all"


class TrainStage(StrEnum):
    """What `train` trains."""

    ALL = "all"
    DETECTOR = "detector"
    SRGAN = "srgan"
    CLASSIFIER = "classifier"


class BackboneChoice(StrEnum):
    """What carries the classifier's head; training.models.backbones.Backbone, which only torch's owners can import."""

    VGG19 = "vgg19"
    VGG16 = "vgg16"
    RESNET50 = "resnet50"
    EFFICIENTNET_B7 = "efficientnet_b7"


def main() -> None:
    """The entry point of the command `wbctool`."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a file's name may hold what the terminal's encoding does not
            reconfigure(errors="backslashreplace")
    app(prog_name="wbctool")


@app.command()
def run(
    slides: Annotated[Path, typer.Argument(metavar="SLIDES", help="Folder of slides; a slide is a folder of images.")],
    out: Annotated[
        Path, typer.Option(metavar="CSV", help="Table to write, x.csv; the folder x beside it takes the rest.")
    ],
    models_dir: ModelsDir = None,
    device: Annotated[Device | None, typer.Option(help="Default: auto.")] = None,
    super_resolve: Annotated[
        SuperResolve | None, typer.Option(help="Which cells the generator enlarges. Default: auto.")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Default: auto.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Threads that work. Default: one a core.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Cells named together on a GPU. Default: 64.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file of settings; options given here win over it.")
    ] = None,
    force: Annotated[bool | None, typer.Option("--force", help="Do every slide again.")] = None,
    retry_failed: Annotated[
        bool | None, typer.Option("--retry-failed", help="Do slides again that failed, wholly or in part.")
    ] = None,
    settle_s: Annotated[
        float | None, typer.Option("--settle", metavar="SECONDS", help="Leave slides alone that changed so recently.")
    ] = None,
    follow_links: Annotated[
        bool | None, typer.Option("--follow-links", help="Follow links that lead out of SLIDES.")
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option(metavar="N", help="Stop once N slides of this run have failed, wholly or in part.")
    ] = None,
    dry_run: Annotated[bool | None, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = None,
    quiet: Annotated[bool | None, typer.Option("--quiet", help="Say nothing but errors.")] = None,
    log_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Log to a file, a JSON object a line.")] = None,
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write metrics for Prometheus's textfile collector, x.prom.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Do the slides on this Dask scheduler's workers.")
    ] = None,
    adult: Annotated[
        bool | None, typer.Option("--adult", help="All slides are of adults: show their reference ranges.")
    ] = None,
) -> None:
    """Count the white cells of every slide below SLIDES.

    Exit codes: 0 done; 1 nothing usable could be written; 2 wrong usage; 3 some slide is failed or partial; 4 no image;
    5 another run holds the output; 130, 143 stopped.
    """
    flags = {name: value for name, value in locals().items() if name != "config"}
    with _errors_as_exit_codes():
        # NumPy reads it when it is first imported. BLAS threads that spin took an eighth of the time from the workers.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from wbctool.cli.running import run_command

        raise typer.Exit(run_command(flags, config))


@app.command()
def status(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a run, or the folder beside it.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    max_age: Annotated[
        float | None, typer.Option(metavar="HOURS", help="End with 1 if no run has ended for so long.")
    ] = None,
) -> None:
    """Say when the last run was, what it did, and what failed or waits.

    Exit codes: that of the last run (0 all is well, 3 some slide is failed or partial); 0 while a run is going on; 1 if
    there was none, the last one was killed, or none has ended for --max-age.
    """
    with _errors_as_exit_codes():
        from wbctool.cli.running import status_command

        raise typer.Exit(status_command(out, as_json, max_age))


@app.command()
def qc(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a run, or the folder beside it.")],
    slide: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this QC slide; may be given often.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the charts go; a folder beside OUT if none.")
    ] = None,
    baseline: Annotated[int, typer.Option(metavar="N", min=2, help="The first N values make mean and SD.")] = 20,
) -> None:
    """Draw Levey-Jennings charts of the QC slides over all runs, and judge the latest values by Westgard's rules.

    The setting qc_slides says which slides are QC slides. Exit codes: 0 in control; 3 a latest value breaks a rule that
    rejects; 1 there is no history.
    """
    with _errors_as_exit_codes():
        from wbctool.cli.quality import qc_command

        raise typer.Exit(qc_command(out, slide or [], folder, baseline))


@app.command()
def train(
    data: Annotated[list[Path] | None, typer.Option(metavar="DIR", help="Labelled data; may be given often.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the models go.")] = Path("exported"),
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE", help="default, paper, or a TOML file.")] = "default",
    stage: Annotated[TrainStage, typer.Option(help="What to train.")] = TrainStage.ALL,
    backbone: Annotated[BackboneChoice, typer.Option(help="The classifier's convolutions.")] = BackboneChoice.VGG19,
    imagenet_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="ImageNet weights; downloaded if none.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoints.")] = False,
    max_hours: Annotated[
        float | None, typer.Option(metavar="HOURS", help="Stop each training then, and export what there is.")
    ] = None,
    fold: Annotated[int, typer.Option(min=0, max=4, help="Which fifth of the sources is held back.")] = 0,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Hold this data set or microscope back whole; may be given often."),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Go on from the classifier of this folder, e.g. with cells of your own."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Train and test every backbone; print them beside the paper's Table 6.")
    ] = False,
) -> None:
    """Train the models and export them to ONNX. Needs the extra: pip install 'wbctool[train]'."""
    with _errors_as_exit_codes():
        try:
            from training.main import train as train_models
            from wbctool.lab.labelled import Splitting
        except ModuleNotFoundError as error:
            typer.echo(f"wbctool: training needs {error.name}: pip install 'wbctool[train]'", err=True)
            raise typer.Exit(1) from error
        logging.basicConfig(format="%(message)s")
        logging.getLogger("training").setLevel(logging.INFO)
        train_models(
            data=data or [],
            out=out,
            recipe=recipe,
            stage=stage.value,
            imagenet_weights=imagenet_weights,
            resume=resume,
            max_hours=max_hours,
            backbone=backbone.value,
            compare=compare,
            start_from=start_from,
            splitting=Splitting(fold, tuple(leave_out or ())),
        )


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Class folders of cells, or fields with boxes.")],
    models_dir: ModelsDir = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where figures and evaluation.json go.")] = None,
    split: Annotated[
        SplitChoice, typer.Option(help="Sources kept from training; those that choices are made by; all.")
    ] = SplitChoice.HELD_BACK,
    super_resolve: Annotated[
        SuperResolve, typer.Option(help="Which cells the generator enlarges.")
    ] = SuperResolve.AUTO,
    precision: Annotated[Precision, typer.Option(help="The models' arithmetic.")] = Precision.AUTO,
    sr_cells: Annotated[
        int, typer.Option(metavar="N", min=0, help="Cells of each data set that compare the generators; 0: none.")
    ] = 100,
    strangers: Annotated[
        int, typer.Option(metavar="N", min=0, help="Pictures of each kind that are no cell of a known class; 0: none.")
    ] = 100,
) -> None:
    """Measure the models on labelled data."""
    with _errors_as_exit_codes():
        from wbctool.cli.measuring import evaluate_command

        chosen = None if split is SplitChoice.ALL else split.value
        raise typer.Exit(evaluate_command(data, models_dir, out, chosen, super_resolve, precision, sr_cells, strangers))


@app.command()
def verify(
    labelled: Annotated[
        Path, typer.Argument(metavar="LABELLED", help="Class folders of cells, or slides with differentials.csv.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where verification.html, .json and the figures go.")],
    models_dir: ModelsDir = None,
    super_resolve: Annotated[
        SuperResolve, typer.Option(help="Which cells the generator enlarges.")
    ] = SuperResolve.AUTO,
) -> None:
    """Say whether the models fit this laboratory, from cells that it labelled itself or smears that it read itself.

    Exit codes: 0 they fit; 1 the data cannot be used; 3 they do not fit, are not shown to, or there is too little data.
    Needs the extra: pip install 'wbctool[evaluate]'.
    """
    with _errors_as_exit_codes():
        from wbctool.cli.verifying import verify_command

        raise typer.Exit(verify_command(labelled, out, models_dir, super_resolve))


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Say what this machine can do, and what to do about the rest."""
    with _errors_as_exit_codes():
        from wbctool.doctor import as_text, examine, report_json

        checks = examine()
        typer.echo(report_json(checks) if as_json else as_text(checks))
        raise typer.Exit(0 if all(check.ok for check in checks if check.needed) else 1)


@models_app.command("list")
def list_models(models_dir: ModelsDir = None) -> None:
    """List the models and what they know."""
    with _errors_as_exit_codes():
        from wbctool.cli.running import list_models_command

        list_models_command(models_dir)


@models_app.command("verify")
def verify_models(models_dir: ModelsDir = None) -> None:
    """Compare each model with the hash in its card."""
    with _errors_as_exit_codes():
        from wbctool.cli.running import verify_models_command

        raise typer.Exit(verify_models_command(models_dir))


@models_app.command("optimize")
def optimize_models(
    models_dir: ModelsDir = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Class folders to calibrate and measure with; wbctool's own cells if none."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the copies go; beside the models if none.")
    ] = None,
) -> None:
    """Make int8 copies of classifier and generator, which a run on a CPU then uses.

    Exit codes: 0 made; 1 a copy would change too much, and is not made. Needs: pip install 'wbctool[optimize]'.
    """
    with _errors_as_exit_codes():
        from wbctool.cli.optimising import optimize_command

        raise typer.Exit(optimize_command(models_dir, data, out))


@review_app.command("apply")
def apply_review(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a run, or the folder beside it.")],
    reviews: Annotated[list[Path], typer.Argument(metavar="REVIEW...", help="review.json as a report saves it.")],
) -> None:
    """Apply readers' reviews: tables and report of their slides change, the originals stay, the audit trail grows.

    Exit codes: 0 all applied; 1 some refused, the others applied; 2 wrong usage; 5 a run holds the output.
    """
    with _errors_as_exit_codes():
        from wbctool.cli.reviewing import apply_command

        raise typer.Exit(apply_command(out, reviews))


@review_app.command("verify")
def verify_review(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a run, or the folder beside it.")],
) -> None:
    """Check the audit trail, and that every slide's results are what the run and the trail say. Exit codes: 0, 1."""
    with _errors_as_exit_codes():
        from wbctool.cli.reviewing import verify_command

        raise typer.Exit(verify_command(out))


@models_app.command("colours")
def measure_colours(
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="The fields the detector was trained on.")],
    models_dir: ModelsDir = None,
) -> None:
    """Measure the colours of the training fields and note them in the detector's card."""
    with _errors_as_exit_codes():
        from wbctool.cli.quality import colours_command

        raise typer.Exit(colours_command(data, models_dir))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wbctool {wbctool.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """White-cell differentials from folders of blood smear images. Research use only."""
