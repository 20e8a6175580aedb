"""What this machine has: its card, and where the libraries lie that reach it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

# Where containers mount the driver.
DRIVERS = ("/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/x86_64-linux-gnu",
           "/usr/lib64", "/usr/lib/wsl/lib")
QUERY = ("name", "driver_version", "memory.total", "compute_cap", "clocks.max.sm", "power.limit")


def said(command, seconds=15, **options):
    """Exit status and what a command says; None and why where it does not start or end."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=seconds, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    return done.returncode, done.stdout.decode(errors="replace")


def streamed(command, **options):
    """Exit status and output of a command, which is passed on as it comes."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    lines = []
    for raw in child.stdout:
        lines.append(raw.decode(errors="replace"))
        print(lines[-1], end="", flush=True)
    return child.wait(), "".join(lines)


def has_card():
    """Whether the system, which is not our program, shows a card."""
    cards = Path("/proc/driver/nvidia/gpus")
    if cards.is_dir() and any(cards.iterdir()):
        return True
    code, text = said(["nvidia-smi", "-L"])
    return code == 0 and "GPU 0" in text


def described():
    """What `nvidia-smi` says of the first card, by field."""
    code, text = said(["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"])
    if code != 0 or not text.strip():
        return {}
    return dict(zip(QUERY, (x.strip() for x in text.splitlines()[0].split(","))))


def loader_knows(name):
    code, text = said(["ldconfig", "-p"])
    return code == 0 and name in text


def cublas_folders():
    """Folders with cuBLAS: of the toolkit, of NVIDIA's wheels."""
    roots = [Path(p) for p in sys.path if p] + [Path(p) for p in ("/opt", "/usr/local/lib")]
    wheels = [found for root in roots if root.is_dir() and root.name.endswith("-packages")
              for found in (*sorted(root.glob("nvidia/cu1*/lib"), reverse=True), root / "nvidia/cublas/lib")]
    toolkits = sorted(Path("/usr/local").glob("cuda*/lib64"), reverse=True)
    return [str(f) for f in (*wheels, *toolkits) if any(f.glob("libcublas.so.1[23]"))]


def environment():
    """Variables of all parts: the driver's folder where the loader does not know it."""
    found = dict(os.environ)
    found.update(PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1", HF_HUB_OFFLINE="1",
                 TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")
    if not loader_knows("libcuda.so.1"):
        folders = [f for f in DRIVERS if (Path(f) / "libcuda.so.1").exists()]
        add_libraries(found, folders)
    return found


def add_libraries(variables, folders):
    """Behind what is searched already."""
    old = [f for f in variables.get("LD_LIBRARY_PATH", "").split(":") if f]
    new = [f for f in folders if f not in old]
    if old or new:
        variables["LD_LIBRARY_PATH"] = ":".join([*old, *new])


def glibc_here():
    """Of this system, as (2, 39); (0, 0) if it does not tell."""
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        text = ""
    found = re.search(r"(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else (0, 0)


def glibc_wanted(path):
    """The newest version of glibc that a program names."""
    names = set(re.findall(rb"GLIBC_(\d+)\.(\d+)", Path(path).read_bytes()))
    return max((tuple(map(int, name)) for name in names), default=(0, 0))


def unpack(archive, target):
    """An `.xz` to its place."""
    try:
        import lzma
        with lzma.open(archive) as source, open(target, "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except ImportError:  # a Python built without it
        with open(target, "wb") as sink:
            subprocess.run(["xz", "-dc", str(archive)], stdout=sink, check=True)
    os.chmod(target, 0o755)
