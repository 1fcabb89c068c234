"""What a model's files are, by SHA-256."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def file_hash(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weight_hashes(path: Path) -> dict[str, str]:
    """SHA-256 of every weight file of a model folder, by its path in there; or of the single file `path`."""
    if path.is_file():
        return {path.name: file_hash(path)}
    return {
        file.relative_to(path).as_posix(): file_hash(file)
        for file in sorted(path.glob("*/*.safetensors"))
        if file.is_file()
    }


def part_hashes(folder: Path) -> dict[str, str]:
    """The same for the folder of a single network."""
    return {file.name: file_hash(file) for file in sorted(folder.glob("*.safetensors"))}


def model_hash(hashes: Mapping[str, str]) -> str:
    """One hash for a whole model: that of the sorted lines `hash  path`, as sha256sum writes them."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
