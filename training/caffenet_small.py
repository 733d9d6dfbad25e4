r"""Train `caffenet-small`: CaffeNet's layout, on class folders of photos.

python -m training.caffenet_small --data imagenette160.zip --data caltech101_160.zip --data everyday160.zip \
    --out caffenet-small.safetensors
"""

import sys

from training import command
from training.augment import Augmentation
from training.data import load_photos
from training.fit import Recipe
from training.layout import caffenet_small

STORED_SIDE, SHOWN_SIDE = 160, 144
RECIPE = Recipe(
    epochs=40,
    batch=64,
    peak=1.5e-3,
    average=0.999,
    small_side=96,
    small_part=0.45,
    order="BGR",
    augmentation=Augmentation(cutmix=0.25, aspect=1.6, soft=0.5),
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    options = command.parser(__doc__, dtype="float16", resize=SHOWN_SIDE).parse_args(arguments)
    recipe = command.adjusted(RECIPE, options)
    photos = load_photos(options.data, STORED_SIDE, command.work_folder(options), ["BACKGROUND_Google"])
    run = command.train(caffenet_small(len(photos.classes)), photos, recipe, options)
    from training.export import finish

    finish(run, photos, options)


if __name__ == "__main__":
    main(sys.argv[1:])
