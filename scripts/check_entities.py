"""Shows how a model can write an entity list and how its entities are said, before anything is transcribed with it.

    python scripts/check_entities.py names.txt
    python scripts/check_entities.py names.txt --model MODEL.nemo
    python scripts/check_entities.py names.txt --pronunciations --lexicon cmudict
    python scripts/check_entities.py names.txt --model MODEL.nemo --variants

Prints what is noted on how the file was read. With --model, also a line for each entity that is merged with another, changed
so that the model can write it, or not writable; with --variants, also the further forms in which each entity is found, with
the nats that they cost and where they come from, and those that were left out because they are something else. With
--pronunciations, prints the pronunciations of each entity, with their probability and where they come from; that does not
load NeMo. The exit code is 1 if an entity is not writable or has no pronunciation, 2 if the list, the model or the lexicon
cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nemo_bias.command_line import command
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.entities import FORMATS, EntityList, read_entities
from nemo_bias.languages import ENGLISH, language
from nemo_bias.variants import GENERATORS


@command
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", metavar="LIST", help="the entity list")
    parser.add_argument("--model", metavar="MODEL.nemo", help="the CTC or hybrid checkpoint that shall use it")
    parser.add_argument("--pronunciations", action="store_true", help="print the pronunciations")
    parser.add_argument(
        "--variants",
        nargs="?",
        const=",".join(DecodingOptions().variants),
        metavar="A,B",
        help=f"print the variants; the generators, among {', '.join(GENERATORS)}; default: those that decoding uses",
    )
    parser.add_argument("--g2g-file", metavar="FILE", help="as in decoding")
    parser.add_argument("--lexicon", metavar="FILE", help="for them: in CMUdict's format, or cmudict; default: none")
    parser.add_argument("--language", default=ENGLISH, metavar="CODE", help="of the list (default: %(default)s)")
    parser.add_argument("--format", default="auto", choices=("auto", *FORMATS), help="of the list")
    options = parser.parse_args(arguments)
    if options.variants is not None and not options.model:
        parser.error("--variants needs --model")
    for name, needs in (("g2g_file", "variants"), ("lexicon", "pronunciations")):
        if getattr(options, name) is not None and not getattr(options, needs):
            parser.error(f"--{name.replace('_', '-')} needs --{needs}")
    if options.language != ENGLISH and not options.model:
        parser.error("--language needs --model; pronunciations are English")
    all_fine = True
    language(options.language)
    entities = read_entities(options.list, options.format)
    if not options.model:  # with one, they come with its notes
        for note in entities.notes:
            print(note)
    if not (options.model or options.pronunciations):
        print(f"{options.list}: {len(entities)} entities; --model MODEL.nemo shows how a model can write them")
    if options.pronunciations and options.language != ENGLISH:
        print(
            f"with language={options.language}, decoding uses these pronunciations only with pronunciations=en, or a lexicon"
        )
    if options.pronunciations:
        all_fine &= _show_pronunciations(entities, options.list, options.lexicon)
    if options.model:
        chosen = DecodingOptions(language=options.language, g2g_file=options.g2g_file)
        chosen.variants = options.variants.split(",") if options.variants is not None else []
        all_fine &= _show_writing(entities, options.list, options.model, chosen)
    return 0 if all_fine else 1


def _show_pronunciations(entities: EntityList, name: str, lexicon: str | None) -> bool:
    """Prints the pronunciations of a list; returns whether there are some of each entity."""
    from nemo_bias.pronunciation import Pronouncer
    from nemo_bias.pronunciation.phones import arpabet

    silent = 0
    for entity, pronunciations in zip(entities, Pronouncer(lexicon).entities(entities.entities), strict=True):
        print(f'{entity.place}: "{entity.text}"{"" if pronunciations else " has no pronunciation; add one to the list"}')
        for phones, probability, source in pronunciations:
            print(f"    {arpabet(phones)} ({source}, {probability:.2f})")
        silent += not pronunciations
    print(f"{name}: {len(entities)} entities, {silent} without a pronunciation")
    return not silent


def _show_writing(entities: EntityList, name: str, model: str, chosen: DecodingOptions) -> bool:
    """Prints what a model does with a list, and its variants; returns whether the model can write all entities."""
    from nemo_bias.decoder.entity_list import compile_list
    from nemo_bias.normalization import normalize_entities
    from nemo_bias.pronunciation import Pronouncer

    Pronouncer(None).entities([entity for entity in entities if entity.pronunciations])  # what cannot be read is an error
    vocabulary = model_vocabulary(model)
    normalized = normalize_entities(entities, vocabulary.alphabet, chosen.language)
    written = compile_list(normalized.phrases, vocabulary).written
    unwritable = list(normalized.unwritable)
    for item, can_be_written in zip(normalized.items, written, strict=True):
        if not can_be_written:
            unwritable.append(item.unsplittable)
    for note in (*normalized.notes, *unwritable):
        print(note)
    if chosen.variants:
        from nemo_bias.decoder.search import BiasedBeamSearch

        found = BiasedBeamSearch(vocabulary, chosen).variants(normalized.entities, normalized.phrases)
        for item, variants in zip(normalized.items, found.variants, strict=True):
            print(f'{item.entity.place}: "{item.entity.text}", written "{item.phrase}"')
            for variant in variants:
                print(f'    "{variant.text}" ({variant.origin}, {variant.cost:.1f} nats)')
        for note in found.notes:
            print(note)
    wanted = [can and item.entity.weight > 0 for item, can in zip(normalized.items, written, strict=True)]
    suppressed = sum(entity.weight < 0 for entity in entities)
    switched_off = sum(entity.weight == 0 for entity in entities)
    others = f", {suppressed} kept out of the text" if suppressed else ""
    others += f", {switched_off} switched off" if switched_off else ""
    print(f"{name}: {len(entities)} entities, {sum(wanted)} phrases to look for, {len(unwritable)} not writable{others}")
    return not unwritable


def model_vocabulary(path: str) -> Any:
    """The tokens of a checkpoint's CTC decoder."""
    from nemo_bias.integration.decoding.strategy import vocabulary_of
    from nemo_bias.integration.encoder.adapter_config import ctc_decoding
    from nemo_bias.integration.model import restore_model

    return vocabulary_of(ctc_decoding(restore_model(path, "cpu")))


if __name__ == "__main__":
    sys.exit(main())
