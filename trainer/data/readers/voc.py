"""Boxes as Pascal VOC writes them, with a csv of what else is known of each image.

SRC holds ``images/`` (or ``JPEGImages/``), ``voc/`` (or ``Annotations/``) with one XML an image of the same stem,
and a csv with a row an image. Without a csv every annotation is a sample without attributes. Characters that a
sample_id cannot have become ``-``.

* **Boxes.** VOC's pixel coordinates are 1-based and inclusive (VOC2012 devkit, section 3.3): ``x = xmin - 1``,
  ``w = xmax - xmin + 1``, and so for y and h; then clipped to the image. ``difficult`` becomes ``ignore``. Boxes
  without an area or wholly outside, annotations that cannot be read or are of another image size are problems,
  all in one report; ``--skip-bad`` leaves them out and prints how many.
* **Groups.** The images of a group (``--group-column``), and images with the same bytes, never part: where the
  csv has them in different splits, all go to test before val before train, and the number moved is printed.
* **Categories.** As they are named, or as ``--categories`` maps them.
* **Split.** From the csv's split column. Where nothing is in test, test is cut from train: groups in the order of
  the sha1 of their name until 20 % of train's images are reached. Without a split column, val (15 % of what is
  left) is cut the same way after test.
* **Times.** The source has none; there are no sequences, so (sha1 of the group, id) is the order in which samples
  are laid over the windows by the rule in ``common.py``: each window gets a mixture, near-duplicates stay together.
"""

import argparse

from trainer.data.readers import Progress
from trainer.data.readers.category_map import add_category_argument, category_map
from trainer.data.readers.common import add_common_arguments, add_time_arguments
from trainer.data.readers.voc_source import Options, read_source
from trainer.data.readers.write_pictures import add_picture_arguments, slices_of, write_pictures

DEFAULT_CSV = "manifest.csv"
DEFAULT_ATTRIBUTES = ("weather", "fog_kind", "time_of_day")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    add_time_arguments(parser)
    add_picture_arguments(parser)
    add_category_argument(parser)
    parser.add_argument("--csv", metavar="FILE", help=f"csv with a row an image, below SRC (default {DEFAULT_CSV})")
    parser.add_argument("--id-column", metavar="NAME", default="id", help="column with the image's stem (default id)")
    parser.add_argument(
        "--attributes",
        metavar="A,B",
        help=f"columns that become attributes (default those of {','.join(DEFAULT_ATTRIBUTES)} that there are)",
    )
    parser.add_argument("--split-column", metavar="NAME", help="column with train, val or test (default split)")
    parser.add_argument("--group-column", metavar="NAME", help="column with the group of near-duplicates")


def run(arguments: argparse.Namespace, progress: Progress | None) -> None:
    """Write the delivery; see the module for its rules.

    Raises:
        ContractError: names every problem of the source.
    """
    options = _options(arguments)
    source = read_source(arguments.src, options, category_map(arguments), progress)
    write_pictures(arguments, source, slices_of(source, sorted(set(options.attributes))))


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        csv=arguments.csv or DEFAULT_CSV,
        csv_required=arguments.csv is not None,
        id_column=arguments.id_column,
        attributes=tuple(arguments.attributes.split(",")) if arguments.attributes else DEFAULT_ATTRIBUTES,
        attributes_required=bool(arguments.attributes),
        split_column=arguments.split_column or "split",
        split_required=arguments.split_column is not None,
        group_column=arguments.group_column or "dup_group",
        group_required=arguments.group_column is not None,
    )
