"""Shows how a model can write an entity list, before anything is transcribed with it.

    python scripts/check_entities.py names.txt --model MODEL.nemo

Prints a line for each entity that is merged with another, changed so that the model can write it, or not writable. The exit
code is 1 if an entity is not writable, 2 if the list or the model cannot be read.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from nemo_bias.entities import FORMATS, read_entities


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", metavar="LIST", help="the entity list")
    parser.add_argument(
        "--model", required=True, metavar="MODEL.nemo", help="the CTC or hybrid checkpoint that shall use it"
    )
    parser.add_argument("--format", default="auto", choices=("auto", *FORMATS), help="of the list")
    options = parser.parse_args(arguments)
    try:
        entities = read_entities(options.list, options.format)
        if not Path(options.model).is_file():
            raise FileNotFoundError(f"no model {options.model}")
        vocabulary = model_vocabulary(options.model)
    except (OSError, TypeError, ValueError) as error:
        print(f"check_entities.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2

    from nemo_bias.decoder.entity_list import compile_list
    from nemo_bias.normalization import normalize_entities

    normalized = normalize_entities(entities, vocabulary.alphabet)
    written = compile_list(normalized.phrases, vocabulary).written
    unwritable = list(normalized.unwritable)
    for item, can_be_written in zip(normalized.items, written, strict=True):
        if not can_be_written:
            unwritable.append(f'{item.entity.place}: "{item.phrase}" cannot be split into tokens of this model')
    for note in (*normalized.notes, *unwritable):
        print(note)
    writable = len(normalized.items) + len(normalized.unwritable) - len(unwritable)
    print(f"{options.list}: {len(entities)} entities, {writable} phrases to look for, {len(unwritable)} not writable")
    return 1 if unwritable else 0


def model_vocabulary(path: str) -> Any:
    """The tokens of a checkpoint's CTC decoder."""
    logging.disable(logging.WARNING)
    from nemo.collections.asr.models import ASRModel
    from nemo.utils import logging as nemo_logging

    from nemo_bias.integration.decoding.strategy import vocabulary_of

    nemo_logging._logger.addFilter(lambda record: record.levelno >= logging.ERROR)
    model = ASRModel.restore_from(path, map_location="cpu")
    decoding = getattr(model, "ctc_decoding", None) or getattr(model, "decoding", None)
    if decoding is None or not type(decoding).__name__.startswith("CTC"):
        raise TypeError(f"{type(model).__name__} has no CTC decoder")
    return vocabulary_of(decoding)


if __name__ == "__main__":
    sys.exit(main())
