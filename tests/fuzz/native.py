"""Fuzz the C extension alone with libFuzzer: ``python -m tests.fuzz.native 300``.

Strategy: `frames_fuzzer.c` includes the extension's source, in which the comparisons of
FLAC's CRCs are taken out, and clang builds it with the address and undefined behaviour
sanitizers. Its first inputs are the frames of this fuzzer's seeds. Needs clang.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import flac_xarray
from tests.fuzz.seeds import tile_seeds

HERE = Path(__file__).parent
CRC = (
    (r"crc8\(p, at\) != p\[at\]", 1),
    (r"crc16\(p, \(size_t\)read\) != \(p\[read\] << 8 \| p\[read \+ 1\]\)", 1),
)
"""The comparisons, and how often each must be there."""


def build(folder: Path) -> Path:
    """Compile the fuzzer; give its program."""
    clang = shutil.which("clang") or shutil.which("clang-14")
    if clang is None:
        raise RuntimeError("needs clang with libFuzzer on PATH")
    text = Path(flac_xarray.__file__).with_name("_flac.c").read_text()
    for pattern, times in CRC:
        text, found = re.subn(pattern, "0", text)
        if found != times:
            msg = f"{found} places of {pattern} in the extension: expected {times}"
            raise RuntimeError(msg)
    source = folder / "without_crc.c"
    source.write_text(text.split("/* ---- Python ")[0])
    program = folder / "frames_fuzzer"
    command = [
        clang, "-O1", "-g", "-fno-sanitize-recover=undefined",
        "-fsanitize=fuzzer,address,undefined", f'-DEXTENSION="{source}"',
        f"-I{sysconfig.get_paths()['include']}", HERE / "frames_fuzzer.c", "-lm",
        "-o", program,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return program


def write_corpus(folder: Path) -> None:
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


def main() -> int:
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        write_corpus(corpus)
        command = [build(folder), corpus, f"-max_total_time={seconds}", "-timeout=5",
                   "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1",
                   f"-artifact_prefix={Path.cwd()}/"]  # fmt: skip
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
