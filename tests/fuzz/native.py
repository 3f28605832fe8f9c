"""Fuzz the C extensions with libFuzzer: ``python -m tests.fuzz.native frames 300``.

Strategy: `frames_fuzzer.c` and `classes_fuzzer.c` include an extension's source up to
what Python calls, in which the comparisons of FLAC's CRCs are taken out; clang builds
them with the address and undefined behaviour sanitizers. The first inputs are made of
this fuzzer's seeds. Needs clang.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

import flac_xarray
from tests.fuzz.files import unpack_pieces
from tests.fuzz.seeds import tile_seeds

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Target:
    """One extension."""

    source: str
    """Its file."""
    python_part: str
    """Where what Python calls begins."""
    crcs: tuple[str, ...]
    """Comparisons that are taken out; each must be there once."""


TARGETS = {
    "frames": Target(
        "_flac.c",
        "/* ---- Python ",
        (
            r"crc8\(p, at\) != p\[at\]",
            r"crc16\(p, \(size_t\)read\) != \(p\[read\] << 8 \| p\[read \+ 1\]\)",
        ),
    ),
    "classes": Target("_classes.c", "static int take_map", ()),
}


def build(name: str, folder: Path) -> Path:
    """Compile a fuzzer; give its program."""
    clang = shutil.which("clang") or shutil.which("clang-14")
    if clang is None:
        raise RuntimeError("needs clang with libFuzzer on PATH")
    target = TARGETS[name]
    text = Path(flac_xarray.__file__).with_name(target.source).read_text()
    text, found, _ = text.partition(target.python_part)
    if not found:
        msg = f"{target.source} has no {target.python_part!r}"
        raise RuntimeError(msg)
    for pattern in target.crcs:
        text, times = re.subn(pattern, "0", text)
        if times != 1:
            msg = f"{times} places of {pattern} in the extension: expected 1"
            raise RuntimeError(msg)
    source = folder / target.source
    source.write_text(text)
    program = folder / "fuzzer"
    command = [
        clang, "-O1", "-g", "-fno-sanitize-recover=undefined",
        "-fsanitize=fuzzer,address,undefined", f'-DEXTENSION="{source}"',
        f"-I{sysconfig.get_paths()['include']}", HERE / f"{name}_fuzzer.c", "-lm",
        "-o", program,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return program


def write_frames(folder: Path) -> None:
    """Write the seeds' frames behind the bytes that choose the arguments."""
    for number, seed in enumerate(tile_seeds()):
        info = seed.stream.info
        fields = int.from_bytes(info[10:18], "big")
        total, bits = fields & (1 << 36) - 1, (fields >> 36 & 31) + 1
        high = int.from_bytes(info[2:4], "big") - 1
        channels = fields >> 41 & 7
        head = bytes([0, channels, bits - 4, high & 255, high >> 8])
        head += bytes([min(-(-total // 8) - 1, 255)])
        (folder / f"frames-{number}").write_bytes(head + seed.stream.frames)
        rows = bytes([224, number & 255, number % 3, number % 40, 0, 0])
        (folder / f"rows-{number}").write_bytes(rows + seed.pixels.tobytes())


def write_classes(folder: Path) -> None:
    """Write the seeds' maps behind the bytes that choose their size."""
    for number, seed in enumerate(tile_seeds()):
        _, found, rest = seed.name.partition("classes:")
        if found:
            planes, height, width = seed.pixels.shape
            head = bytes([(planes - 1) << 3 | int(rest) - 1, height - 1, width - 1])
            pieces = unpack_pieces((seed.stream.payload(2) or b"")[4:])
            (folder / f"classes-{number}").write_bytes(head + pieces[-1][5])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.native")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("seconds", type=int, nargs="?", default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        (write_frames if given.target == "frames" else write_classes)(corpus)
        program = build(given.target, folder)
        command = [program, corpus, f"-max_total_time={given.seconds}", "-timeout=5",
                   "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1",
                   f"-artifact_prefix={Path.cwd()}/"]  # fmt: skip
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
