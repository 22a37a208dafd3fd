"""The 20 ImageNet images that Foolbox brings along, as a folder with a class each.

python images.py photographs
"""

import shutil
import sys
from pathlib import Path

import foolbox


def write(folder: Path, images: int = 20) -> int:
    """Copy images to FOLDER/LABEL/IMAGE and return how many."""
    found = sorted(Path(foolbox.__file__).with_name("data").glob("imagenet_*.jpg"))[:images]
    for path in found:
        label = path.stem.split("_")[-1]
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / label)
    return len(found)


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1]))} images in {sys.argv[1]}")
