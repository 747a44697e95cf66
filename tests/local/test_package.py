"""JobRelay as it is installed: from a wheel, in an environment of its own, in a folder that is empty."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support import PATIENCE, REPOSITORY

#: Of all that is installed without extras.
MOST_BYTES = 60 * 10**6


def build(folder: Path, target: str, kind: str) -> Path:
    """The sdist or the wheel of a source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = Path(target).glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout."""
    return build(REPOSITORY, str(tmp_path_factory.mktemp("wheel")), "wheel")


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin/pip"), "--disable-pip-version-check", "install", "-q", "--retries", "0"]
    command = [*pip, "-c", str(REPOSITORY / "constraints.txt"), str(wheel)]
    done = subprocess.run(command, env=outside(), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs the launcher's libraries from a package index, not here")
    return folder


def outside(*paths: Path) -> dict[str, str]:
    """The environment of a user who has no checkout, and no cluster."""
    hidden = ("PYTHONPATH", "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "JOBRELAY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    search = os.pathsep.join([*map(str, paths), kept.get("PATH", "")])
    return {**kept, "PATH": search, "KUBECONFIG": "/nowhere/config"}


def jobrelay(
    environment: Path, *arguments: str, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["jobrelay", *arguments],
        env=outside(environment / "bin") | variables, cwd=cwd, capture_output=True, text=True,
        timeout=4 * PATIENCE, check=False,
    )  # fmt: skip


def test_the_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build(REPOSITORY, str(tmp_path / "sdist"), "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("jobrelay-*/")
    again = build(source, str(tmp_path / "wheel"), "wheel")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert first.testzip() is second.testzip() is None
        assert {each.filename: each.CRC for each in first.infolist()} == {
            each.filename: each.CRC for each in second.infolist()
        }


def test_without_extras_it_is_small(environment: Path) -> None:
    (libraries,) = environment.glob("lib/python3*/site-packages")
    installed = {path.name.partition("-")[0].lower(): path for path in libraries.iterdir()}
    assert not {"torch", "torchvision", "matplotlib", "numpy", "kubernetes"} & installed.keys()
    ours = [path for name, path in installed.items() if name not in ("pip", "setuptools")]
    files = [file for path in ours for file in ([path] if path.is_file() else path.rglob("*"))]
    assert sum(file.stat().st_size for file in files if file.is_file()) < MOST_BYTES


def test_it_works_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    shown = jobrelay(environment, "--version", cwd=tmp_path)
    assert shown.stdout.startswith("jobrelay, version ")
    for folder, image in (("k8s/overlays/gpu", "-gpu"), ("overlays/kind", ""), ("k8s/base", "")):
        rendered = jobrelay(environment, "render", "--run", "a", "-k", folder, cwd=tmp_path)
        assert (rendered.returncode, rendered.stderr) == (0, "")
        assert f"{image}\n" in rendered.stdout
        assert "name: a-infer" in rendered.stdout
    assert not list(tmp_path.iterdir())


def test_a_hint_is_the_command_as_it_was_started(environment: Path, tmp_path: Path) -> None:
    unknown = jobrelay(environment, "status", "x", "--local", cwd=tmp_path)
    assert unknown.stderr.endswith("  try: jobrelay list --local\n")


def test_without_the_extra_the_built_in_programs_are_refused(environment: Path, tmp_path: Path) -> None:
    refused = jobrelay(environment, "run-all", "--local", cwd=tmp_path)
    assert refused.returncode == 2
    assert "which lacks torch, torchvision, numpy, PIL\n  try: " in refused.stderr
    assert refused.stderr.endswith("'jobrelay[train]'\n")
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(environment: Path, tmp_path: Path, shell: str) -> None:
    script = jobrelay(environment, cwd=tmp_path, _JOBRELAY_COMPLETE=f"{shell}_source")
    assert script.returncode == 0
    assert f"_JOBRELAY_COMPLETE={shell}_complete" in script.stdout
    typed = "sta" if shell == "fish" else "1"
    found = jobrelay(
        environment, cwd=tmp_path,
        _JOBRELAY_COMPLETE=f"{shell}_complete", COMP_WORDS="jobrelay sta", COMP_CWORD=typed,
    )  # fmt: skip
    assert "status" in found.stdout


def test_an_image_is_built_from_what_is_installed(environment: Path) -> None:
    program = (
        "from jobrelay.resources import build_context\n"
        "with build_context() as folder:\n"
        "    for path in sorted(folder.rglob('*')):\n"
        "        if path.is_file(): print(path.relative_to(folder))"
    )
    done = subprocess.run(
        [environment / "bin/python", "-c", program],
        env=outside(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    #: What .dockerignore lets through.
    sent = ("constraints.txt", "requirements/", "images/warm_up.py", "LICENSE", "jobs/")
    wanted = {name for name in listed.stdout.splitlines() if name.startswith(sent)}
    assert wanted | {".dockerignore", "images/slim.Dockerfile"} <= set(done.stdout.splitlines())


def test_the_built_in_programs_run_from_it(environment: Path, tmp_path: Path) -> None:
    """With PyTorch in reach, that of the tests, as if the extra were installed."""
    (libraries,) = environment.glob("lib/python3*/site-packages")
    borrowed = libraries / "torch_of_the_tests.pth"
    borrowed.write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    try:
        ran = jobrelay(environment, "run-all", "--local", "--set", "train.epochs=1", cwd=tmp_path)
    finally:
        borrowed.unlink()
    assert ran.returncode == 0, ran.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "report.html").is_file()
