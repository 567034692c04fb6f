"""`wbctool doctor`: what this machine can do, tried and not assumed, and what to do about the rest.

Only Python's own library and typer are imported before they are tried, because a missing library is what the doctor
has to report.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.options import AsJson, ModelsDir
from wbctool.cli.output import echo
from wbctool.enums import Device
from wbctool.errors import WbctoolError
from wbctool.exit_codes import ExitCode
from wbctool.hardware import usable_cores

PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
    "tifffile",
    "imagecodecs",
    "openpyxl",
    "psutil",
    "scipy",
    "pandas",
    "pydantic",
    "jinja2",
    "markupsafe",
    "filelock",
    "protobuf",
    "prometheus-client",
    "typer",
    "rich",
)
RUNTIMES = ("onnxruntime-gpu", "onnxruntime")
_MIN_MEMORY_GIB = 4
_DEVELOPERS_EXTRAS = {"dev", "docs"}
_EXTRA_REQUIREMENT = re.compile(r".*;.*\bextra\s*==\s*['\"](?P<extra>[^'\"]+)")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: What was tried.
        ok: Whether it works.
        detail: What was found, or why it does not work.
        advice: What to do if it failed.
        needed: Whether `wbctool run` cannot work without it.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""
    needed: bool = True


def doctor(models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """Show what this machine can do, and what to do about the rest."""
    with handle_errors():
        checks = run_checks(models_dir)
        echo(format_checks_json(checks) if as_json else format_checks_text(checks))
        raise typer.Exit(ExitCode.DONE if _can_run(checks) else ExitCode.FATAL)


def run_checks(models_dir: Path | None = None) -> tuple[Check, ...]:
    """Try everything that a run needs or could use.

    Args:
        models_dir: Folder of models; the shipped models if None.

    Returns:
        The checks in the order in which they were made.
    """
    return (
        _check_python(),
        *(check_package(name) for name in PACKAGES),
        *_check_extras(),
        _run_check("onnxruntime", _check_onnxruntime),
        _run_check("models", lambda: _check_models(models_dir)),
        _run_check("cpu", lambda: _check_cpu(models_dir)),
        _run_check("cuda", lambda: _check_cuda(models_dir), needed=False),
        Check("cores", True, str(usable_cores()), needed=False),
        _check_memory(),
        check_temp_dir(),
    )


def format_checks_text(checks: Sequence[Check]) -> str:
    """Return a line for each check, with the advice below it if it failed.

    >>> print(format_checks_text([Check("cuda", False, "no driver", "install one", needed=False)]))
    no   cuda: no driver
         -> install one
    """
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL' if check.needed else 'no  '} {check.name}: {check.detail}")
        if not check.ok and check.advice:
            lines.append(f"     -> {check.advice}")
    return "\n".join(lines)


def format_checks_json(checks: Sequence[Check]) -> str:
    """Return a JSON object: ``ok``, whether `wbctool run` can work here, and ``checks``."""
    return json.dumps({"ok": _can_run(checks), "checks": [asdict(check) for check in checks]}, indent=1)


def _can_run(checks: Sequence[Check]) -> bool:
    """Return whether all checks that `wbctool run` needs are passed."""
    return all(check.ok for check in checks if check.needed)


def _check_python() -> Check:
    """Check the version of Python."""
    return Check("python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer")


def check_package(name: str) -> Check:
    """Check that a package is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, "not installed", f"pip install {name}")


def _check_extras() -> list[Check]:
    """Check which extras of wbctool are installed; none can be named if wbctool itself is not installed."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        requirements = requires("wbctool") or ()
    except PackageNotFoundError:
        return []
    extras: dict[str, set[str]] = {}
    for requirement in requirements:
        if match := _EXTRA_REQUIREMENT.match(requirement):
            extras.setdefault(match["extra"], set()).update(_list_packages(requirement))
    return [
        check_extra(name, sorted(packages))
        for name, packages in sorted(extras.items())
        if name not in _DEVELOPERS_EXTRAS
    ]


def check_extra(name: str, packages: Sequence[str]) -> Check:
    """Check that the packages of an extra are installed."""
    missing = [package for package in packages if not check_package(package).ok]
    detail = f"{', '.join(missing)} not installed" if missing else "installed"
    return Check(f"extra {name}", not missing, detail, f"pip install 'wbctool[{name}]'", needed=False)


def _list_packages(requirement: str) -> set[str]:
    """Return the package of a requirement, and those of that package's own extras which it names."""
    from importlib.metadata import PackageNotFoundError, requires

    package, _, inner = re.split(r"[\s<>=!~;]", requirement, maxsplit=1)[0].partition("[")
    packages = {package}
    with suppress(PackageNotFoundError):
        for other in requires(package) or ():
            match = _EXTRA_REQUIREMENT.match(other)
            if match and match["extra"] in inner.removesuffix("]").split(","):
                packages |= _list_packages(other)
    return packages


def _run_check(name: str, check: Callable[[], Check], needed: bool = True) -> Check:
    """Run a check that imports what it tries; it has failed if a library is missing or does not load."""
    try:
        return check()
    except ImportError as error:
        return Check(name, False, f"not tried: {error}", "reinstall wbctool with all that it needs", needed)


def _check_onnxruntime() -> Check:
    """Check which of the packages of ONNX Runtime is installed, and what it was built with."""
    import onnxruntime

    installed = []
    for name in RUNTIMES:
        package = check_package(name)
        if package.ok:
            installed.append(f"{name} {package.detail}")
    providers = ", ".join(onnxruntime.get_available_providers())
    return Check("onnxruntime", bool(installed), f"{', '.join(installed)}; built with {providers}")


def _check_models(models_dir: Path | None) -> Check:
    """Check the models against the hashes in their cards."""
    from wbctool.inference.model_card import default_models_dir
    from wbctool.inference.model_folder import check_models

    folder = models_dir or default_models_dir()
    advice = "reinstall wbctool, or give the folder of models with --models"
    try:
        problems = [problem for _, problem in check_models(folder) if problem]
    except WbctoolError as error:
        return Check("models", False, str(error), advice)
    return Check("models", not problems, "; ".join(problems) or f"{folder}: all hashes match the cards", advice)


def _check_cpu(models_dir: Path | None) -> Check:
    """Check that the models run on the CPU."""
    import wbctool

    try:
        wbctool.load_models(models_dir, Device.CPU)
    except WbctoolError as error:
        return Check("cpu", False, str(error), "see the lines above")
    return Check("cpu", True, "the models run")


def _check_cuda(models_dir: Path | None) -> Check:
    """Check that the detector runs on CUDA; a provider may be listed without working."""
    import onnxruntime

    from wbctool.inference.model_card import default_models_dir, read_card
    from wbctool.inference.model_folder import read_model_bytes
    from wbctool.inference.session import cuda_unavailable_reason

    folder = models_dir or default_models_dir()
    cuda = getattr(onnxruntime, "cuda_version", "")  # which onnxruntime was built for; empty if for none
    driver = f"a driver that supports CUDA {cuda}" if cuda else "a current driver"
    advice = f"for an NVIDIA GPU: {driver}, and pip install 'wbctool[gpu]'"
    try:
        card = read_card(folder / "detector.json")
        problem = cuda_unavailable_reason(card, read_model_bytes(card, folder))
    except WbctoolError as error:
        return Check("cuda", False, f"not tried: {error}", advice, needed=False)
    return Check("cuda", problem is None, problem or "a session runs on it", advice, needed=False)


def _check_memory() -> Check:
    """Check that the machine has enough memory for several workers."""
    try:
        gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        return Check("memory", True, "unknown", needed=False)
    advice = f"under {_MIN_MEMORY_GIB} GiB: use --workers 1"
    return Check("memory", gib >= _MIN_MEMORY_GIB, f"{gib:.1f} GiB", advice, needed=False)


def check_temp_dir() -> Check:
    """Check that temporary files can be written."""
    import tempfile

    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"wbctool")
    except OSError as error:
        return Check("temporary folder", False, str(error), "set TMPDIR to a writable folder", needed=False)
    return Check("temporary folder", True, tempfile.gettempdir(), needed=False)
